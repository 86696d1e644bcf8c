"""A checkpoint's scores: weights onto the devices, predictions over a split, table and metrics.json out."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from occjax.config import Config
from occjax.data.index import Index, load_index
from occjax.data.pipeline import make_eval_loader
from occjax.evaluation import Evaluation, Options, Subject, evaluate
from occjax.metrics.on_device import VoxelSummary, summarise
from occjax.models.preprocess import normalize_images
from occjax.models.student import apply_student
from occjax.train.checkpoint import Checkpoints
from occjax.train.mesh import make_mesh, put_batch, replicated
from occjax.train.state import Program, TrainState, make_program
from occjax.types import Batch


def evaluate_workdir(config: Config, workdir: Path, *, best: bool = False) -> Evaluation:
    """Evaluates the newest checkpoint of `workdir` (or the best one) on `config.data.val_split`.

    Raises:
      UserError: no checkpoint, one of another model, or data that is not there.
    """
    mesh = make_mesh()
    checkpoints = Checkpoints(workdir, keep=config.train.keep_checkpoints)
    # The number of steps shapes the schedule only, which evaluation does not use.
    program, init = make_program(config, total_steps=1)
    state, _ = checkpoints.restore(jax.eval_shape(init), mesh, best=best)
    checkpoints.close()
    index = load_index(config.data, fallback_dir=workdir)
    name = f"step-{int(state.step)}{'-best' if best else ''}"
    return evaluate_student(config, program, state, index, mesh=mesh, output_dir=workdir / "eval" / name)


def evaluate_student(
    config: Config,
    program: Program,
    state: TrainState,
    index: Index,
    *,
    mesh: Mesh,
    output_dir: Path,
    draws: bool = True,
) -> Evaluation:
    """Evaluates the configured weights (EMA or raw) of a training state on `config.data.val_split`.

    Args:
      config: label set, grid, evaluation options.
      program: of the run.
      state: on the devices of `mesh`.
      index: of the data.
      mesh: devices; the batch is rounded up to a multiple of their number.
      output_dir: gets metrics.json and the pictures.
      draws: whether to draw `config.eval.pictures` pictures.
    """
    split = index.split(config.data.val_split)
    samples = min(len(split), config.eval.max_samples or len(split))
    loader = make_eval_loader(
        config,
        index,
        config.data.val_split,
        batch_size=-(-config.eval.batch_size // mesh.size) * mesh.size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        max_samples=config.eval.max_samples,
    )
    if config.eval.weights == "ema":
        params, batch_stats = state.ema["params"], state.ema["batch_stats"]
    else:
        params, batch_stats = state.params["student"], state.batch_stats
    try:
        return evaluate(
            make_predict_fn(config, program, params, batch_stats, mesh),
            loader,
            split,
            config,
            subject=Subject("student", config.eval.weights, int(state.step)),
            output_dir=output_dir,
            options=Options(pictures=config.eval.pictures if draws else 0),
            num_samples=samples,
        )
    finally:
        loader.close()


def make_predict_fn(
    config: Config, program: Program, params: dict, batch_stats: dict, mesh: Mesh
) -> Callable[[Batch], VoxelSummary]:
    """Compiled forward pass and summary: a numpy batch in, this process's part of the summary in numpy out."""

    @jax.jit
    def predict(params: dict, batch_stats: dict, batch: Batch) -> VoxelSummary:
        predictions, _ = apply_student(
            program.student, params, batch_stats, normalize_images(batch.images), batch.rig, train=False
        )
        return summarise(
            predictions.voxel_logits,
            batch,
            labels_kind=config.data.labels,
            use_camera_mask=config.data.labels == "occ3d",
        )

    params, batch_stats = jax.device_put((params, batch_stats), replicated(mesh))

    def predict_fn(batch: Batch) -> VoxelSummary:
        summary = predict(params, batch_stats, put_batch(batch, mesh))
        return jax.tree.map(_local_rows, summary)

    return predict_fn


def _local_rows(array: jax.Array) -> np.ndarray:
    """The rows of a batch that lie on this process's devices, in order."""
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
