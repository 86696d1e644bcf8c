"""View transform: features are lifted along their depth distribution onto the BEV grid (LSS, Philion & Fidler 2020)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from occjax.config import DepthConfig, ViewTransformConfig
from occjax.grid import VoxelGrid
from occjax.models.depth_net import grid_from_cam
from occjax.models.layers import Conv
from occjax.models.splat import splat
from occjax.types import CameraRig


def depth_centers_m(config: DepthConfig) -> Float[Array, "d"]:
    """Centres of the equal depth bins between min_m and max_m, metres along the optical axis."""
    return config.min_m + (jnp.arange(config.bins) + 0.5) * ((config.max_m - config.min_m) / config.bins)


def lift_cells(
    rig: CameraRig,
    image_size: tuple[int, int],
    feature_size: tuple[int, int],
    depths_m: Float[Array, "d"],
    grid: VoxelGrid,
) -> Int[Array, "b n h w d"]:
    """BEV cell of every lifted point, as x · Y + y; X · Y where the point is outside or its camera missing.

    Height is not tested: a point above or below the grid still says what stands in its column.

    Args:
      rig: cameras; the rays use the intrinsics as recorded, after the image augmentation is undone.
      image_size: (H, W) of the network input, pixels.
      feature_size: (h, w) of the feature map.
      depths_m: depth of each bin along the optical axis.
      grid: the model's grid.
    """
    (height, width), (h, w) = image_size, feature_size
    # Centres of the feature pixels in pixels of the input, whose own centres lie at halves.  [h, 1], [1, w]
    v = (jnp.arange(h) + 0.5)[:, None] * (height / h)
    u = (jnp.arange(w) + 0.5)[None, :] * (width / w)

    def entry(matrix, row, column):
        return matrix[..., row, column][..., None, None]  # [B, N, 1, 1]

    # Elementwise throughout: accelerators round matmul inputs, which would move points across cells.
    a = rig.input_from_pixel
    u, v = u - entry(a, 0, 2), v - entry(a, 1, 2)
    determinant = entry(a, 0, 0) * entry(a, 1, 1) - entry(a, 0, 1) * entry(a, 1, 0)
    u_raw = (entry(a, 1, 1) * u - entry(a, 0, 1) * v) / determinant
    v_raw = (entry(a, 0, 0) * v - entry(a, 1, 0) * u) / determinant
    k = rig.pixel_from_cam
    # 1e-6, as in the original: imported weights find their points in the cells they were trained on.
    ray_x = (u_raw - entry(k, 0, 2)) / (entry(k, 0, 0) + 1e-6)
    ray_y = (v_raw - entry(k, 1, 2)) / (entry(k, 1, 1) + 1e-6)

    rotation, translation = grid_from_cam(rig)
    # One array per axis of the grid: [B, N, h, w, D, 3] would be the largest of the model.
    axes = []
    for axis in range(3):
        ray = entry(rotation, axis, 0) * ray_x + entry(rotation, axis, 1) * ray_y + entry(rotation, axis, 2)
        axes.append(ray[..., None] * depths_m + translation[..., axis][..., None, None, None])  # [B, N, h, w, D]
    bev = rig.augmented_from_grid[:, None, None, None, None]  # [B, 1, 1, 1, 1, 3, 3]
    x, y = (sum(bev[..., row, axis] * axes[axis] for axis in range(3)) for row in range(2))

    size_x, size_y = grid.shape[:2]
    ix = jnp.floor((x - grid.lower_m[0]) / grid.voxel_size_m).astype(jnp.int32)
    iy = jnp.floor((y - grid.lower_m[1]) / grid.voxel_size_m).astype(jnp.int32)
    inside = (ix >= 0) & (ix < size_x) & (iy >= 0) & (iy < size_y) & rig.is_present[..., None, None, None]
    return jnp.where(inside, ix * size_y + iy, size_x * size_y)


def bev_grid(grid: VoxelGrid, cell_voxels: int) -> VoxelGrid:
    """The grid that features are lifted onto: columns of `cell_voxels` by `cell_voxels` of the model's."""
    x, y, z = grid.shape
    size_m = grid.voxel_size_m * cell_voxels
    # Heights are rounded up: nothing is lifted by them.
    return dataclasses.replace(
        grid, voxel_size_m=size_m, shape=(x // cell_voxels, y // cell_voxels, -(-z // cell_voxels))
    )


def bev_coverage(cells: Int[Array, "b n h w d"], num_cells: int) -> Float[Array, "b"]:
    """Share of BEV cells that at least one lifted point of a present camera falls into."""
    hit = jax.vmap(lambda i: jnp.zeros(num_cells).at[i.ravel()].max(1.0, mode="drop"))(cells)
    return hit.mean(axis=-1)


class ViewTransform(nnx.Module):
    """Lift, splat, then a 3x3 convolution with bias; `grid` is the one that it lifts onto."""

    def __init__(
        self, depth: DepthConfig, config: ViewTransformConfig, grid: VoxelGrid, *, dtype=jnp.float32, rngs: nnx.Rngs
    ):
        self.depth, self.splat, self.grid = depth, config.splat, bev_grid(grid, config.cell_voxels)
        self.refine = Conv(config.channels, config.channels, 3, use_bias=True, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        context: Float[Array, "b n h w c"],
        depth_logits: Float[Array, "b n h w d"],
        rig: CameraRig,
        image_size: tuple[int, int],
    ) -> tuple[Float[Array, "b x y c"], Float[Array, "b"]]:
        """BEV features [B, X, Y, C] and the BEV coverage [B]."""
        size_x, size_y = self.grid.shape[:2]
        feature_size = (context.shape[2], context.shape[3])
        cells = lift_cells(rig, image_size, feature_size, depth_centers_m(self.depth), self.grid)
        bev = self.lifted(context, depth_logits, lambda values, weights: splat(values, weights, cells, size_x * size_y))
        return self.refine(bev), bev_coverage(cells, size_x * size_y)

    def lifted(
        self,
        context: Float[Array, "b n h w c"],
        depth_logits: Float[Array, "b n h w d"],
        sum_per_cell: Callable[[Float[Array, "b n h w c2"], Float[Array, "b n h w d"]], Float[Array, "b cells c2"]],
    ) -> Float[Array, "b x y c"]:
        """BEV features before `refine`; `sum_per_cell` sums weights times values over the points of each cell."""
        size_x, size_y = self.grid.shape[:2]
        probs = jax.nn.softmax(depth_logits, axis=-1)
        # float32: a near cell sums thousands of points.
        context = context.astype(jnp.float32)
        if self.splat == "mean":
            # A channel more carries the depth mass; a cell without a point stays 0.
            context = jnp.concatenate([context, jnp.ones_like(context[..., :1])], axis=-1)
            bev = sum_per_cell(context, probs)
            bev = bev[..., :-1] / (bev[..., -1:] + 1e-6)
        else:
            bev = sum_per_cell(context, probs)
        return bev.reshape(-1, size_x, size_y, bev.shape[-1])  # [B, X, Y, C]
