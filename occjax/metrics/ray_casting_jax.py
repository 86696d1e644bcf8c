"""The same rays as one compiled loop in 64 bits, equal to the numpy traversal bit for bit, on a CPU or an accelerator.

A sample of 8 origins, prediction and truth, on two cores of an AMD EPYC (`ray_benchmark.py`; numba outside of it):

    numpy                                       0.20 s
    this loop                                   0.12 s, after 0.3 s of compiling
    one numba loop per ray, without the set-up  0.05 s, after 2.3 s of compiling

Numba would bring LLVM as a second compiler for a tenth of a second and would not reach an accelerator.
"""

import jax
import jax.numpy as jnp
import numpy as np

from occjax.classes import FREE
from occjax.grid import VoxelGrid
from occjax.metrics.ray_casting import (
    MAX_STEPS,
    OUTSIDE,
    Traversal,
    cast_rays,
    metres,
    padded,
    ray_directions,
    rays_in_voxels,
)

# The number of origins is rounded up to a multiple of this, so that few programs are compiled.
_ORIGINS = 8


def cast_rays_jax(volumes: list[np.ndarray], origins_m: np.ndarray, grid: VoxelGrid) -> tuple[np.ndarray, np.ndarray]:
    """As `occjax.metrics.ray_casting.cast_rays`, on jax's default device."""
    count = len(origins_m)
    if count == 0:
        return cast_rays(volumes, origins_m, grid)
    spare = -count % _ORIGINS
    origins = np.concatenate([origins_m, np.repeat(origins_m[:1], spare, axis=0)]).astype(np.float64)
    rays = Traversal(*rays_in_voxels(origins, grid), grid.shape)
    # Not every jax has it in the same place.
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable_x64(True):
        labels, distances = _march(
            jnp.asarray(np.stack([padded(volume) for volume in volumes])),
            jnp.asarray(np.array([volume[0, 0, 0] for volume in volumes])),
            jnp.asarray(rays.enters),
            jnp.asarray(rays.index.astype(np.int32)),
            jnp.asarray(rays.t_max),
            jnp.asarray(rays.t_delta),
            jnp.asarray(rays.stride.astype(np.int32)),
        )
        labels, distances = np.asarray(labels), np.asarray(distances)
    shape = (len(volumes), len(origins), len(ray_directions()))
    return labels.reshape(shape)[:, :count], metres(distances.reshape(shape)[:, :count], grid)


@jax.jit
def _march(flat, corner, enters, index, t_max, t_delta, stride):
    num_volumes, count = len(flat), len(index)

    def is_busy(carry):
        step, pending = carry[0], carry[3]
        return (step < MAX_STEPS) & pending.any()

    def advance(carry):
        step, index, t_max, pending, left_at, labels, distances = carry
        leaves_at = t_max.min(0)
        here = flat[:, index]  # [V, R]
        outside = here[0] == OUTSIDE
        met = pending & (here != FREE)
        labels = jnp.where(met, jnp.where(outside, jnp.uint8(FREE), here), labels)
        distances = jnp.where(met, jnp.where(outside, left_at, leaves_at), distances)
        tx, ty, tz = t_max
        along_x = (tx < ty) & (tx < tz)
        along_y = (tx >= ty) & (ty < tz)
        along = jnp.stack([along_x, along_y, ~(along_x | along_y)])
        # A ray that has left stays where it is.
        index = index + jnp.where(outside, 0, jnp.where(along, stride, 0).sum(0, dtype=index.dtype))
        t_max = jnp.where(along, t_max + t_delta, t_max)
        return step + 1, index, t_max, pending & ~met, leaves_at, labels, distances

    carry = (
        0,
        jnp.where(enters, index, 0),
        t_max,
        jnp.broadcast_to(enters, (num_volumes, count)),
        jnp.zeros(count, t_max.dtype),
        jnp.broadcast_to(corner[:, None], (num_volumes, count)),
        jnp.full((num_volumes, count), -1.0, t_max.dtype),
    )
    *_, labels, distances = jax.lax.while_loop(is_busy, advance, carry)
    return labels, distances
