"""A checkpoint's scores: weights onto the devices, predictions over a split, table and metrics.json out."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from occjax.config import Config
from occjax.data.index import Index, load_index
from occjax.data.pipeline import make_eval_loader
from occjax.label_sets import label_set
from occjax.metrics.on_device import VoxelSummary, summarise
from occjax.predict.forward import Weights, full_batch, make_predict_fn, restore, without_depth
from occjax.run.scoring import Evaluation, Options, Subject, evaluate
from occjax.train.mesh import make_mesh
from occjax.types import Batch


def evaluate_workdir(config: Config, workdir: Path, *, options: Options, best: bool = False) -> Evaluation:
    """Evaluates the newest checkpoint of `workdir` (or the best one) on `config.data.val_split`.

    Raises:
      UserError: no checkpoint, one of another model, or data that is not there.
    """
    mesh = make_mesh()
    weights = restore(config, workdir, mesh, best=best)
    index = load_index(config.data, fallback_dir=workdir)
    output_dir = workdir / "eval" / f"step-{weights.step}{'-best' if best else ''}"
    return evaluate_student(config, weights, index, mesh=mesh, output_dir=output_dir, options=options)


def evaluate_student(
    config: Config,
    weights: Weights,
    index: Index,
    *,
    mesh: Mesh,
    output_dir: Path,
    options: Options,
) -> Evaluation:
    """Evaluates a student on `config.data.val_split`.

    Args:
      config: label set, grid, evaluation options.
      weights: the configured ones (EMA or raw) of a checkpoint or of a run.
      index: of the data.
      mesh: devices; the batch is rounded up to a multiple of their number.
      output_dir: gets metrics.json, pictures and predictions.
      options: what is produced beside scores.
    """
    split = index.split(config.data.val_split)
    loader = make_eval_loader(
        without_depth(config),
        index,
        config.data.val_split,
        batch_size=full_batch(config.eval.batch_size, mesh),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        max_samples=config.eval.max_samples,
    )
    try:
        return evaluate(
            make_summary_fn(config, weights, mesh),
            loader,
            split,
            config,
            subject=Subject("student", config.eval.weights, weights.step),
            output_dir=output_dir,
            options=options,
            num_samples=min(len(split), config.eval.max_samples or len(split)),
        )
    finally:
        loader.close()


def make_summary_fn(config: Config, weights: Weights, mesh: Mesh) -> Callable[[Batch], VoxelSummary]:
    """Compiled forward pass and summary: a numpy batch in, this process's part of the summary in numpy out."""
    output = functools.partial(summarise, label_set=label_set(config.data.labels), use_camera_mask=True)
    return make_predict_fn(config, weights, mesh, output)
