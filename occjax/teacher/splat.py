"""Splatting: what Gaussians say of every voxel, as probabilities (GaussianFormer-2) or as sums (GaussianFormer).

The grid is cut into tiles of 8 by 8 columns. Each tile has a list of the Gaussians whose cube of cells touches it, and
is worked through in chunks of its list: a loop over as many chunks as there are, so that no list is too long.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from occjax.grid import VoxelGrid
from occjax.teacher.anchors import Gaussians, own_from_lidar
from occjax.teacher.layers import PRECISION
from occjax.teacher.variants import GRID, TeacherVariant

TILE, CHUNK = 8, 128
# Below this density a voxel's semantics are said to be unknown: uniform over the 17 classes before free.
MIN_WEIGHT = 1e-9
# Of version 1: mean and standard deviations of the Gaussian that stands for free space.
EMPTY_MEAN_M, EMPTY_SCALE_M = (0.0, 0.0, -1.0), (100.0, 100.0, 8.0)


class VoxelSums(NamedTuple):
    """Sums over the Gaussians that reach a voxel; E is a Gaussian's value there, 1 at its mean.

    Attributes:
      values: Σ amplitude · E · value.
      weight: Σ amplitude · E.
      log_free: Σ log(1 - E).
      density: Σ E.
    """

    values: Float[Array, "x y z k"]
    weight: Float[Array, "x y z"]
    log_free: Float[Array, "x y z"]
    density: Float[Array, "x y z"]


class Probabilities(NamedTuple):
    """Of version 2; `values` [X, Y, Z, 18] sum to 1 over the classes, the last of which is 1 - `occupied`."""

    values: Float[Array, "x y z k"]
    occupied: Float[Array, "x y z"]
    density: Float[Array, "x y z"]
    semantics: Float[Array, "x y z k"]


def probabilities(
    gaussians: Gaussians, variant: TeacherVariant, grid: VoxelGrid = GRID, *, per_axis: bool = False
) -> Probabilities:
    """Occupied where any Gaussian says so; semantics are those of the Gaussians as a mixture (GaussianFormer-2, §3).

    Args:
      gaussians: semantics as 17 logits.
      variant: its cut-off.
      grid: where to evaluate.
      per_axis: cut off along each axis by the scale of the same number, the published fast mode, rather than along all
        by the largest; scales belong to the Gaussian's own axes, so that this cuts into turned ones.
    """
    classes = jax.nn.softmax(gaussians.semantics)
    # The density of a normal distribution, so that a wide Gaussian does not outweigh a narrow one.
    amplitude = gaussians.opacities * (2 * math.pi) ** -1.5 / gaussians.scales.prod(-1)
    sums = sum_over_gaussians(gaussians, amplitude, classes, variant, grid, per_axis=per_axis)
    is_known = sums.weight > MIN_WEIGHT
    mixture = sums.values / jnp.where(is_known, sums.weight, 1.0)[..., None]
    mixture = jnp.where(is_known[..., None], mixture, 1 / classes.shape[-1])
    # 1 - Π (1 - E), exact also where it is small.
    occupied = -jnp.expm1(sums.log_free)
    values = jnp.concatenate([mixture * occupied[..., None], 1 - occupied[..., None]], axis=-1)
    return Probabilities(values, occupied, sums.density, mixture)


def logits(
    gaussians: Gaussians, variant: TeacherVariant, empty_value: Float[Array, ""] | None, grid: VoxelGrid = GRID
) -> Float[Array, "x y z 18"]:
    """Sums of what Gaussians hold, weighted by opacity (GaussianFormer, Huang et al. 2024).

    Args:
      gaussians: their semantics are logits, 18 of them, or 17 without the class free.
      variant: its cut-off.
      empty_value: the logit of the class free in the Gaussian for free space; None where there is none.
      grid: where to evaluate.
    """
    values = gaussians.semantics
    if variant.semantic_channels == 17:
        values = jnp.pad(values, ((0, 0), (0, 1)))
    sums = sum_over_gaussians(gaussians, gaussians.opacities, values, variant, grid)
    if empty_value is None:
        return sums.values
    distance = (grid.centers_m() - np.array(EMPTY_MEAN_M)) / np.array(EMPTY_SCALE_M)
    return sums.values.at[..., -1].add(empty_value * np.exp(-0.5 * np.square(distance).sum(-1)).astype(np.float32))


def sum_over_gaussians(
    gaussians: Gaussians,
    amplitude: Float[Array, "g"],
    values: Float[Array, "g k"],
    variant: TeacherVariant,
    grid: VoxelGrid,
    *,
    per_axis: bool = False,
) -> VoxelSums:
    """Sums over all Gaussians in reach: a voxel is, whose cell lies within a cube around the cell of the mean."""
    lower, upper = reach(gaussians, variant, grid, per_axis=per_axis)
    pairs = tile_lists(lower, upper, variant.max_radius, grid.shape)
    tiles_x, tiles_y = tile_counts(grid.shape)
    # E is exp(-|turned|²/2): the offset along the Gaussian's own axes, in standard deviations. Unlike an inverted
    # covariance it cannot come out above 1.
    turned_from_lidar = own_from_lidar(gaussians.rotations) / gaussians.scales[..., None]
    values = jnp.concatenate([values, jnp.ones((len(values), 1))], axis=-1)
    depth = grid.shape[2]
    x, y, z = np.meshgrid(np.arange(TILE), np.arange(TILE), np.arange(depth), indexing="ij")
    in_tile = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.int32)  # [V, 3]

    def add_chunk(chunk, total):
        tile = jnp.searchsorted(pairs.last_chunk, chunk, side="right").astype(jnp.int32)
        chunks_before = jnp.where(tile > 0, pairs.last_chunk[tile - 1], 0)
        place = (chunk - chunks_before) * CHUNK + jnp.arange(CHUNK)
        is_listed = place < pairs.count[tile]
        row = pairs.gaussian[jnp.where(is_listed, pairs.first[tile] + place, 0)]  # [CHUNK]
        voxel = in_tile + jnp.stack([tile // tiles_y * TILE, tile % tiles_y * TILE, jnp.zeros_like(tile)])
        is_reached = is_listed & ((voxel[:, None] >= lower[row]) & (voxel[:, None] <= upper[row])).all(-1)
        center = jnp.array(grid.lower_m) + (voxel + 0.5) * grid.voxel_size_m  # [V, 3], metres
        offset = gaussians.means[row] - center[:, None]  # [V, CHUNK, 3]
        matrix = turned_from_lidar[row]
        turned = [sum(matrix[:, i, j] * offset[..., j] for j in range(3)) for i in range(3)]
        e = jnp.where(is_reached, jnp.exp(-0.5 * sum(jnp.square(t) for t in turned)), 0.0)  # [V, CHUNK]
        weighted = jnp.matmul(e * amplitude[row], values[row], precision=PRECISION)
        found = jnp.concatenate([weighted, jnp.log1p(-e).sum(-1, keepdims=True), e.sum(-1, keepdims=True)], axis=-1)
        return jax.lax.dynamic_update_index_in_dim(total, total[tile] + found, tile, 0)

    total = jnp.zeros((tiles_x * tiles_y, len(in_tile), values.shape[-1] + 2))
    total = jax.lax.fori_loop(0, pairs.last_chunk[-1], add_chunk, total)
    # [tiles, V, K] to [X, Y, Z, K]
    total = total.reshape(tiles_x, tiles_y, TILE, TILE, depth, -1).swapaxes(1, 2)
    total = total.reshape(tiles_x * TILE, tiles_y * TILE, depth, -1)[: grid.shape[0], : grid.shape[1]]
    return VoxelSums(total[..., :-3], total[..., -3], total[..., -2], total[..., -1])


def reach(
    gaussians: Gaussians, variant: TeacherVariant, grid: VoxelGrid, *, per_axis: bool
) -> tuple[Int[Array, "g 3"], Int[Array, "g 3"]]:
    """First and last voxel, inclusive, that each Gaussian reaches along every axis; the first may lie behind the last.

    That is the case of a Gaussian so far outside of the grid that it reaches none.
    """
    center = jnp.trunc((gaussians.means - jnp.array(grid.lower_m)) / grid.voxel_size_m).astype(jnp.int32)
    scales = gaussians.scales if per_axis else gaussians.scales.max(-1, keepdims=True)
    radius = jnp.maximum(jnp.ceil(scales * variant.scale_multiplier / grid.voxel_size_m).astype(jnp.int32), 1)
    return jnp.maximum(center - radius, 0), jnp.minimum(center + radius, jnp.array(grid.shape) - 1)


class TileLists(NamedTuple):
    """Gaussians by tile.

    Attributes:
      gaussian: all lists one after the other.
      first: where each tile's begins.
      count: its length.
      last_chunk: chunks of this tile and all before it.
    """

    gaussian: Int[Array, "pairs"]
    first: Int[Array, "tiles"]
    count: Int[Array, "tiles"]
    last_chunk: Int[Array, "tiles"]


def tile_counts(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Tiles along x and y; the last ones may reach beyond the grid."""
    return -(-shape[0] // TILE), -(-shape[1] // TILE)


def tile_lists(
    lower: Int[Array, "g 3"], upper: Int[Array, "g 3"], max_radius: int, shape: tuple[int, int, int]
) -> TileLists:
    """Which Gaussians reach each tile, by sorting all pairs of a Gaussian and a tile that it may reach."""
    # As many tiles as a cube of 2r + 1 cells can touch: the lists have room for every Gaussian.
    per_axis = -(-2 * max_radius // TILE) + 1
    tiles_x, tiles_y = tile_counts(shape)
    tiles = tiles_x * tiles_y
    x, y = (lower[:, axis, None] // TILE + jnp.arange(per_axis) for axis in (0, 1))  # [G, T]
    reached_x, reached_y = (i <= upper[:, axis, None] // TILE for axis, i in ((0, x), (1, y)))
    tile = x[:, :, None] * tiles_y + y[:, None, :]
    tile = jnp.where(reached_x[:, :, None] & reached_y[:, None, :], tile, tiles).reshape(-1)  # [G*T*T]
    order = jnp.argsort(tile)  # stable
    count = jnp.bincount(tile, length=tiles)
    return TileLists(
        gaussian=(order // per_axis**2).astype(jnp.int32),
        first=jnp.cumsum(count) - count,
        count=count,
        last_chunk=jnp.cumsum(-(-count // CHUNK)),
    )
