"""Forward pass of a run's student: configured weights of a checkpoint onto the devices, predictions of batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from occjax.config import Config
from occjax.models.preprocess import normalize_images
from occjax.models.student import abstract_student, apply_student
from occjax.predict.stored_weights import Weights
from occjax.system.ahead import ahead
from occjax.system.mesh import batch_sharding, put_batch, replicated
from occjax.system.stop_requests import StopRequested, unless_stopped, waiting_thread
from occjax.types import Batch

PredictFn = Callable[[Batch], Any]


def make_predictor(
    config: Config, mesh: Mesh, output: Callable[[Float[Array, "b x y z k"], Batch], Any]
) -> Callable[[Weights], PredictFn]:
    """Forward pass, compiled once for all weights: what it returns makes of weights a function of numpy batches.

    Args:
      config: of the run.
      mesh: devices; the batch must divide among them.
      output: voxel logits and the batch to a tree of arrays [B, ...], each row of its own sample; compiled with the
        student. The function of batches gives this process's rows of it as numpy arrays.
    """
    graph, _, _ = abstract_student(config.model, config.grid.build())

    def predict(batch: Batch, params: dict, batch_stats: dict) -> Any:
        images = normalize_images(batch.images)
        predictions, _ = apply_student(graph, params, batch_stats, images, batch.rig, train=False)
        return output(predictions.voxel_logits, batch)

    # Weights are arguments and not constants of the program: compiled in, every checkpoint would be compiled anew.
    rows_fn = make_rows_fn(predict, mesh)

    def with_weights(weights: Weights) -> PredictFn:
        params, batch_stats = jax.device_put((weights.params, weights.batch_stats), replicated(mesh))
        return lambda batch: rows_fn(batch, params, batch_stats)

    return with_weights


def make_rows_fn(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles `function(batch, *rest)`, whose every output is [B, ...]: a numpy batch in, this process's rows out.

    Args:
      function: of a part of the batch and arrays that every process has whole; each row of its own sample alone.
      mesh: devices; the batch must divide among them.
    """
    compiled = make_split_fn(function, mesh)
    return lambda batch, *rest: jax.tree.map(_local_rows, compiled(put_batch(batch, mesh), *rest))


def make_split_fn(function: Callable[..., Any], mesh: Mesh) -> jax.stages.Wrapped:
    """`function(batch, *rest)` compiled for a batch that is split over the devices, and so are its outputs.

    Each device calls it with its own part, and nothing moves between them: left to the compiler, a loop over the
    samples would gather the logits of all of them on every device.
    """

    def split(batch: Any, *rest: Any) -> Any:
        axes = (batch_sharding(mesh).spec, *[replicated(mesh).spec] * len(rest))
        # Unchecked: what varies over devices is not known of every primitive that a student is made of.
        return jax.shard_map(function, mesh=mesh, in_specs=axes, out_specs=axes[0], check_vma=False)(batch, *rest)

    return jax.jit(split)


def in_advance(
    predict_fn: PredictFn, batches: Iterable[Batch], asked: Callable[[], int] = lambda: 0
) -> Iterator[tuple[Batch, Any]]:
    """Each batch with its prediction, while the next one's is computed: device and host work at the same time.

    Raises:
      StopRequested: `asked` gave a signal's number while the first one's program was compiled, say.
    """
    device, is_waited_for = waiting_thread(), True
    try:
        # One, no more: every batch holds its images and its predictions.
        for batch, prediction in ahead(device, predict_fn, batches, 1):
            yield batch, unless_stopped(prediction, asked)
    except StopRequested:
        # What it computes for nobody may take the compiler's minutes.
        is_waited_for = False
        raise
    finally:
        device.shutdown(wait=is_waited_for, cancel_futures=True)


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
