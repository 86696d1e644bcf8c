"""CPU spellings: what a processor is told in another way than an accelerator, with the figure that justifies each.

Figures are processor time on two cores of an AMD EPYC, with avx512f and restricted to avx2, jax 0.7.1. No spelling is
on the way from images to predictions, since a choice by platform stops conversion to ONNX.
"""

import ctypes
import functools
import math
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float, Int

# jax is imported where it is used: loader processes keep their memory too, and start without it.
Array = Any

_SHORT = 256  # elements of a short sum
_COPIES = 16  # of a histogram that many threads count into
# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory; call it before jax is used. Returns whether that was done.

    By default large arrays go back to the system when they are freed, and the system must clear and map every page of
    the next ones again. The process then never holds less than its peak, which it reaches in every step or sample.
    Other C libraries are left as they are.
    """
    # Quickstart's training step: 0.62 against 0.74 s with avx512f; an augmented sample in a loader: a fifth less.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # One arena, grown in place and never trimmed: further arenas cannot hold large blocks and would map each anew.
    return all(mallopt(name, value) for name, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)))


def processor_facts() -> dict[str, str]:
    """What Linux says about the last core, "model name" and "flags" among it; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def column_sums(x: Float[Array, "b *axes c"], weight: Float[Array, "b"] | None = None) -> Float[Array, "c"]:
    """Sum over all axes but the last, float32; rows of the first axis count `weight` times."""
    import jax

    # [6, 120, 160, 256]: 13 against 87 ms with avx512f, 13 against 89 with avx2; BatchNorm with its gradient on that
    # map: 99 against 266, and 110 against 242.
    return jax.lax.platform_dependent(x, weight, cpu=column_sums_by_product, default=column_sums_by_reduction)


def column_sums_by_product(x: Float[Array, "b *axes c"], weight: Float[Array, "b"] | None) -> Float[Array, "c"]:
    """`column_sums` for a CPU, where XLA reduces leading axes seven times more slowly than it multiplies by ones."""
    import jax
    import jax.numpy as jnp

    rows = jnp.ones(x.shape[0]) if weight is None else weight
    # Two equal rows: a product with a vector is merged with what computes `x`, into loops that are slower still.
    rows = jnp.tile(jnp.repeat(rows, math.prod(x.shape[1:-1])), (2, 1))
    return jnp.dot(rows, x.reshape(-1, x.shape[-1]).astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)[0]


def column_sums_by_reduction(x: Float[Array, "b *axes c"], weight: Float[Array, "b"] | None) -> Float[Array, "c"]:
    """`column_sums` as it reads, for every other platform: a float32 product so thin would ruin a GPU's step."""
    x = x.astype("float32")
    if weight is not None:
        x = x * weight.reshape(-1, *[1] * (x.ndim - 1))
    return x.sum(axis=tuple(range(x.ndim - 1)))


def sum_all(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Sum of all elements, float32, the same to six digits on any number of devices."""
    import jax

    # 40 million gradients: 6.8 against 34 ms with avx2, the same 10 with avx512f. And without the compiler's
    # optimisation, as the tests run, one running sum per device loses the sixth digit on 16 thousand voxels.
    return jax.lax.platform_dependent(values, cpu=sum_all_by_product, default=sum_all_by_reduction)


def sum_all_by_product(values: Float[Array, "..."]) -> Float[Array, ""]:
    """`sum_all` for a CPU: a sum of short sums, the short ones by a product with ones."""
    import jax
    import jax.numpy as jnp

    flat = values.astype(jnp.float32).reshape(-1)
    rows = jnp.pad(flat, (0, -flat.size % _SHORT)).reshape(-1, _SHORT)
    return jnp.sum(jnp.dot(rows, jnp.ones(_SHORT), precision=jax.lax.Precision.HIGHEST))


def sum_all_by_reduction(values: Float[Array, "..."]) -> Float[Array, ""]:
    """`sum_all` as it reads: accelerators reduce by trees, which is as exact."""
    return values.astype("float32").sum()


def error_histogram(cell: Int[Array, "*v k"], counted: Bool[Array, "*v"], bins: int) -> Int[Array, "k 2 bins"]:
    """Counted voxels by class, by whether they are of the class (second axis: 0 = not, 1 = of it), and by rank.

    Args:
      cell: of each voxel and class, where it counts in the flattened histogram: (2 · class + is of it) · bins + rank.
      counted: which voxels do.
      bins: number of ranks.
    """
    import jax

    # [1, 200, 200, 16, 18] into 1024 bins, with the rest of Lovász and its gradient: 376 against 480 ms with avx2.
    return jax.lax.platform_dependent(
        cell,
        counted,
        cpu=functools.partial(error_histogram_at_once, bins=bins),
        default=functools.partial(error_histogram_by_copies, bins=bins),
    )


def error_histogram_at_once(cell, counted, bins: int) -> Int[Array, "k 2 bins"]:
    """`error_histogram` for a CPU, whose one thread never waits: a check per voxel costs more than it saves."""
    import jax.numpy as jnp

    k = cell.shape[-1]
    count = jnp.broadcast_to(counted[..., None], cell.shape).astype(jnp.int32)
    # Indices are in range by construction; said so, they need no check per voxel.
    return jnp.zeros(k * 2 * bins, jnp.int32).at[cell].add(count, mode="promise_in_bounds").reshape(k, 2, bins)


def error_histogram_by_copies(cell, counted, bins: int) -> Int[Array, "k 2 bins"]:
    """`error_histogram` for every other platform, where threads that add to one number wait for each other.

    Nine of ten errors are next to nothing: they are not added, bin 0 is what the others leave of the whole. The rest
    goes into copies that are summed in the end.
    """
    import jax.numpy as jnp

    k, voxels = cell.shape[-1], tuple(range(cell.ndim - 1))
    copy = (jnp.arange(counted.size) % _COPIES).reshape(*counted.shape, 1)
    size = k * 2 * bins
    # Past the end, and dropped, where nothing is to be added.
    place = jnp.where(counted[..., None] & (cell % bins > 0), copy * size + cell, _COPIES * size)
    added = jnp.zeros(_COPIES * size, jnp.int32).at[place].add(1, mode="drop").reshape(_COPIES, k, 2, bins).sum(0)
    is_class = cell // bins % 2 == 1
    own = jnp.sum(is_class & counted[..., None], voxels, dtype=jnp.int32)
    whole = jnp.stack([counted.sum(dtype=jnp.int32) - own, own], axis=-1)  # [K, 2]
    return added.at[..., 0].set(whole - added.sum(axis=-1))
