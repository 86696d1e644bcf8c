"""Deformable aggregation: every Gaussian reads the images where its key points fall, and weighs what it finds there.

Cameras are few and most points fall into one or none of them: what is read is limited to `cameras_per_point`, and the
largest number that occurred is returned, so that nothing is cut in silence.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from occjax.teacher.bilinear import CORNERS, corners
from occjax.teacher.layers import PRECISION, Weights, linear, mlp
from occjax.teacher.preprocess import HEIGHT, WIDTH

GROUPS = 4  # of channels, each with weights of its own
MIN_DEPTH_M = 1e-5


class Views(NamedTuple):
    """Where points fall in the images.

    Attributes:
      uv: image position relative to its width and height, in 0..1 where visible.
      is_visible: in front of the camera and inside its image.
    """

    uv: Float[Array, "g p n 2"]
    is_visible: Bool[Array, "g p n"]


class Reading(NamedTuple):
    """What `read_images` found; most_cameras is the largest number of cameras that see one point."""

    features: Float[Array, "g c"]
    most_cameras: Int[Array, ""]


def project(points: Float[Array, "g p 3"], cropped_from_lidar: Float[Array, "n 4 4"]) -> Views:
    """Views of points in the frame of LIDAR_TOP, metres."""
    matrix = cropped_from_lidar[:, :3]
    h = jnp.einsum("nij,gpj->gpni", matrix[..., :3], points, precision=PRECISION) + matrix[..., 3]
    depth = h[..., 2]
    uv = h[..., :2] / jnp.maximum(depth, MIN_DEPTH_M)[..., None] / jnp.array([WIDTH, HEIGHT], jnp.float32)
    return Views(uv, (depth > MIN_DEPTH_M) & ((uv > 0) & (uv < 1)).all(-1))


def attention_logits(
    weights: Weights, query: Float[Array, "g c"], cropped_from_lidar: Float[Array, "n 4 4"]
) -> Float[Array, "g n l p k"]:
    """A logit per camera, level, point and group; cameras are told apart by their raw matrices.

    Args:
      weights: camera, an MLP, and attention, a linear layer with kernel [C, L, P, K].
      query: features plus embedding.
      cropped_from_lidar: of the cropped images.
    """
    n = len(cropped_from_lidar)
    cameras = mlp(weights["camera"], cropped_from_lidar[:, :3].reshape(n, 12))
    # The layer is linear: Gaussians and cameras pass it apart, not each pair of them.
    kernel, bias = weights["attention"]["kernel"], weights["attention"]["bias"]
    of_query, of_camera = (jnp.einsum("mc,clpk->mlpk", x, kernel, precision=PRECISION) for x in (query, cameras))
    return of_query[:, None] + of_camera[None] + bias


def attention(logits: Float[Array, "g n l p k"], is_visible: Bool[Array, "g p n"]) -> Float[Array, "g n l p k"]:
    """Softmax over all cameras, levels and points that are visible; zeros where none is."""
    mask = jnp.swapaxes(is_visible, 1, 2)[:, :, None, :, None]  # [G, N, 1, P, 1]
    logits = jnp.where(mask, logits, -jnp.inf)
    largest = logits.max((1, 2, 3), keepdims=True)
    share = jnp.exp(logits - jnp.where(jnp.isfinite(largest), largest, 0.0))
    total = share.sum((1, 2, 3), keepdims=True)
    return share / jnp.where(total > 0, total, 1.0)


def read_images(
    levels: tuple[Float[Array, "n _ _ c"], ...],
    views: Views,
    weights: Float[Array, "g n l p k"],
    cameras_per_point: int,
) -> Reading:
    """Σ over cameras, levels and points of weight · feature, each group of channels with its own weights.

    Args:
      levels: feature maps of all cameras, P3 to P6.
      views: of the key points.
      weights: from `attention`.
      cameras_per_point: cameras read per point, the first ones that see it.
    """
    n, channels = levels[0].shape[0], levels[0].shape[-1]
    g, points, _ = views.is_visible.shape
    # One table for all maps: level after level, within each camera after camera.
    table = jnp.concatenate([level.reshape(-1, channels) for level in levels])
    rank = jnp.cumsum(views.is_visible, axis=-1)  # 1 for the first camera that sees a point
    slots = jnp.arange(1, cameras_per_point + 1)
    is_slot = views.is_visible[:, :, None] & (rank[:, :, None] == slots[:, None])  # [G, P, slots, N]
    camera = jnp.argmax(is_slot, axis=-1)  # [G, P, slots]
    share = (
        is_slot.any(-1)[..., None, None]
        * weights[jnp.arange(g)[:, None, None], camera, :, jnp.arange(points)[:, None], :]
    )  # [G, P, slots, L, K]
    uv = jnp.take_along_axis(views.uv, camera[..., None], axis=2)  # [G, P, slots, 2]

    # Positions in pixels, before the loop: its operands lie in memory. Computed once for the rows and once more for
    # their shares, a position could be rounded to either side of a pixel's centre, and a neighbour read with its share.
    sizes = [level.shape[1:3] for level in levels]
    pixels = uv[..., None, :] * jnp.array([size[::-1] for size in sizes], jnp.float32) - 0.5  # [G, P, slots, L, 2]

    def by_view(values):
        return jnp.moveaxis(values.reshape(g, -1, *values.shape[3:]), 0, 1)

    # A view at a time: what all of them read would be gigabytes.
    def add_view(total, operands):
        camera, pixels, share = operands  # [G], [G, L, 2], [G, L, K]
        first_row = 0
        for level, (height, width) in enumerate(sizes):
            index, corner_share = corners(pixels[:, level, 1], pixels[:, level, 0], height, width)
            rows = first_row + camera[:, None] * (height * width) + index
            for corner in range(CORNERS):
                found = table.at[rows[:, corner]].get(mode="promise_in_bounds").reshape(g, GROUPS, -1)
                total = total + found * (corner_share[:, corner, None] * share[:, level])[..., None]
            first_row += n * height * width
        return total, None

    total = jnp.zeros((g, GROUPS, channels // GROUPS))
    total, _ = jax.lax.scan(add_view, total, (by_view(camera), by_view(pixels), by_view(share)))
    return Reading(total.reshape(g, channels), rank[..., -1].max())


def deformable_aggregation(
    weights: Weights,
    query: Float[Array, "g c"],
    points: Float[Array, "g p 3"],
    levels: tuple[Float[Array, "n _ _ c"], ...],
    cropped_from_lidar: Float[Array, "n 4 4"],
    *,
    cameras_per_point: int,
) -> Reading:
    """What Gaussians read from the images: `points` are their key points, `query` their features plus embedding."""
    views = project(points, cropped_from_lidar)
    shares = attention(attention_logits(weights, query, cropped_from_lidar), views.is_visible)
    reading = read_images(levels, views, shares, cameras_per_point)
    return Reading(linear(weights["output"], reading.features), reading.most_cameras)
