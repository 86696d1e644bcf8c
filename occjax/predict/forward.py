"""Forward pass of a run's student: configured weights of a checkpoint onto the devices, predictions of batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from occjax.config import Config
from occjax.models.preprocess import normalize_images
from occjax.models.student import abstract_student, apply_student
from occjax.train.checkpoint import CheckpointError, Checkpoints
from occjax.train.mesh import batch_sharding, put_batch, replicated
from occjax.types import Batch


class Weights(NamedTuple):
    """What the student predicts with.

    Attributes:
      params, batch_stats: of the student, nested dicts of arrays.
      step: updates that made them.
    """

    params: dict
    batch_stats: dict
    step: int


def restore(config: Config, workdir: Path, mesh: Mesh, *, best: bool = False) -> Weights:
    """The configured weights (EMA or raw) of the newest checkpoint of `workdir`, or of the one with the best mIoU.

    They lie whole on each device of `mesh`; nothing else of the checkpoint is read.

    Raises:
      CheckpointError: no checkpoint, or one of another model.
    """
    # Looked at before `Checkpoints`, which would make the folders of a workdir that was mistyped.
    if not any((workdir / ("best" if best else "checkpoints")).glob("[0-9]*")):
        remedy = "leave --best out" if best else "train first, or name another --workdir"
        raise CheckpointError(f"no {'best ' if best else ''}checkpoint in {workdir}; {remedy}")
    checkpoints = Checkpoints(workdir, keep=config.train.keep_checkpoints)
    _, params, batch_stats = abstract_student(config.model, config.grid.build())
    try:
        return Weights(*checkpoints.restore_student(params, batch_stats, mesh, which=config.eval.weights, best=best))
    finally:
        checkpoints.close()  # ends the threads that orbax starts for each folder


def make_predict_fn(
    config: Config, weights: Weights, mesh: Mesh, output: Callable[[Float[Array, "b x y z k"], Batch], Any]
) -> Callable[[Batch], Any]:
    """Compiled forward pass: a numpy batch in, numpy arrays out.

    Args:
      config: of the run.
      weights: to predict with.
      mesh: devices; the batch must divide among them.
      output: voxel logits and the batch to a tree of arrays [B, ...]; compiled with the student. The
        function returned gives this process's rows of it.
    """
    graph, _, _ = abstract_student(config.model, config.grid.build())

    def predict(batch: Batch, params: dict, batch_stats: dict) -> Any:
        images = normalize_images(batch.images)
        predictions, _ = apply_student(graph, params, batch_stats, images, batch.rig, train=False)
        return output(predictions.voxel_logits, batch)

    # Arguments and not constants of the program: compiled in, every checkpoint would be compiled anew.
    params, batch_stats = jax.device_put((weights.params, weights.batch_stats), replicated(mesh))
    rows_fn = make_rows_fn(predict, mesh)
    return lambda batch: rows_fn(batch, params, batch_stats)


def make_rows_fn(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles `function(batch, *rest)`, whose every output is [B, ...]: a numpy batch in, this process's rows out.

    The outputs are split over the devices like the batch. Left to the compiler, some would be whole on every device,
    and a process would take the first rows of all for its own.

    Args:
      function: of a global batch and arrays that every process has whole.
      mesh: devices; the batch must divide among them.
    """
    compiled = jax.jit(function, out_shardings=batch_sharding(mesh))
    return lambda batch, *rest: jax.tree.map(_local_rows, compiled(put_batch(batch, mesh), *rest))


def full_batch(size: int, mesh: Mesh) -> int:
    """`size` rounded up to a multiple of the number of devices; what is over is padding that counts nothing."""
    return -(-size // mesh.size) * mesh.size


def _local_rows(array: Shaped[Array, "global_b *axes"]) -> Shaped[np.ndarray, "b *axes"]:
    """The rows of a batch that lie on this process's devices, in order."""
    if array.is_fully_addressable:
        return np.asarray(array)
    # In the order of the rows, which is not that of the devices.
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
