"""Lifter: each pixel draws a depth, and the points that cover space best become anchors (GaussianFormer-2)."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from occjax.grid import VoxelGrid
from occjax.teacher.anchors import EXTENT_M, LOWER_M, logit, means_m
from occjax.teacher.farthest_points import farthest_points
from occjax.teacher.layers import PRECISION, Weights, linear
from occjax.teacher.preprocess import HEIGHT, WIDTH
from occjax.teacher.variants import GRID

# Depths of the bins, metres; one more bin says that the ray meets nothing.
DEPTHS_M = np.linspace(1, 72, 128, dtype=np.float32)
EMPTY = len(DEPTHS_M)
JITTER_M = 0.1

# "drawn", as published, or "argmax", the likeliest bin.
DepthMode = Literal["drawn", "argmax"]


class Candidates(NamedTuple):
    """Points that pixels are lifted to, those inside the grid first, in the order camera, row, column.

    Attributes:
      points: metres, in the frame of LIDAR_TOP; meaningless from `count` on.
      count: how many there are.
    """

    points: Float[Array, "r 3"]
    count: Int[Array, ""]


class Lifted(NamedTuple):
    """Anchors, lifted ones before stored ones, and how many candidates they were chosen from."""

    anchors: Float[Array, "g c"]
    candidates: Int[Array, ""]


def depth_logits(weights: Weights, features: Float[Array, "n h w c"]) -> Float[Array, "n h w 129"]:
    """Logits of the depth bins and of the empty ray."""
    return linear(weights, jax.nn.relu(features))


def choose_bins(
    logits: Float[Array, "n h w 129"], u: Float[Array, "n h w"], mode: DepthMode
) -> tuple[Int[Array, "n h w"], Bool[Array, "n h w"]]:
    """Each pixel's bin, and whether it is kept.

    A pixel is dropped where the empty ray is its likeliest bin, whatever it drew.

    Args:
      logits: of `depth_logits`.
      u: uniform draws in [0, 1), which pick by the cumulative distribution; not read in mode "argmax".
      mode: how bins are chosen.
    """
    probabilities = jax.nn.softmax(logits)
    likeliest = jnp.argmax(probabilities, axis=-1)
    if mode == "argmax":
        return likeliest, likeliest != EMPTY
    epsilon = np.finfo(np.float32).eps
    probabilities = probabilities / (probabilities.sum(-1, keepdims=True) + epsilon)
    # The cumulative sum as a product with a triangle, in one pass over memory.
    triangle = np.triu(np.ones((EMPTY + 1, EMPTY + 1), np.float32))
    cumulative = jnp.matmul(probabilities, triangle, precision=PRECISION)
    return jnp.minimum((cumulative <= u[..., None]).sum(-1), EMPTY), likeliest != EMPTY


def unproject(bins: Int[Array, "n h w"], lidar_from_cropped: Float[Array, "n 4 4"]) -> Float[Array, "n h w 3"]:
    """Points at the depth of each pixel's bin, metres in the frame of LIDAR_TOP; the empty bin lies at the last."""
    _, h, w = bins.shape
    depth = jnp.array(DEPTHS_M)[jnp.minimum(bins, EMPTY - 1)]
    x = (jnp.arange(w) + 0.5) / w * WIDTH
    y = ((jnp.arange(h) + 0.5) / h * HEIGHT)[:, None]
    ray = jnp.stack([x * depth, y * depth, depth], axis=-1)
    matrix = lidar_from_cropped[:, :3]
    turned = jnp.einsum("nij,nhwj->nhwi", matrix[..., :3], ray, precision=PRECISION)
    return turned + matrix[:, None, None, :, 3]


def inside(points: Float[Array, "n h w 3"], is_kept: Bool[Array, "n h w"], grid: VoxelGrid = GRID) -> Candidates:
    """The kept points inside the grid, brought to the front."""
    points, is_kept = points.reshape(-1, 3), is_kept.reshape(-1)
    lower, upper = jnp.array(grid.lower_m), jnp.array(grid.upper_m)
    is_kept &= ((points >= lower) & (points < upper)).all(-1)
    # What is not kept is written behind the end, which drops it.
    row = jnp.where(is_kept, jnp.cumsum(is_kept) - 1, len(points))
    return Candidates(jnp.zeros_like(points).at[row].set(points, mode="drop"), is_kept.sum())


def padded(
    candidates: Candidates, jitter: Float[Array, "m 3"], grid: VoxelGrid = GRID
) -> tuple[Float[Array, "r 3"], Bool[Array, "r"]]:
    """At least M points: where there are fewer candidates, whole copies of their list follow, moved a little.

    Args:
      candidates: at least one.
      jitter: standard normal draws [M, 3] for the copies.
      grid: copies are clamped to it.

    Returns:
      points and whether each is one.
    """
    wanted, n = len(jitter), jnp.maximum(candidates.count, 1)
    # Whole lists: fewer than M points more.
    slot = jnp.arange(max(len(candidates.points), 2 * wanted))
    points = candidates.points[slot % n]
    moved = points + JITTER_M * jitter[jnp.clip(slot - n, 0, wanted - 1)]
    moved = jnp.clip(moved, jnp.array(grid.lower_m), jnp.array(grid.upper_m))
    lists = -(-wanted // n)
    return jnp.where((slot < n)[:, None], points, moved), slot < n * jnp.maximum(lists, 1)


def lift(
    weights: Weights,
    logits: Float[Array, "n h w 129"],
    lidar_from_cropped: Float[Array, "n 4 4"],
    u: Float[Array, "n h w"],
    jitter: Float[Array, "m 3"],
    *,
    mode: DepthMode = "drawn",
) -> Lifted:
    """Anchors from depth logits.

    The M farthest candidates take the stored shapes and semantics in the order of choice. Without any candidate, which
    the published code does not survive, lifted anchors stand where the stored ones do, again and again.

    Args:
      weights: lifted [M, 25], stored [R, 28].
      logits: of `depth_logits`.
      lidar_from_cropped: inverse of the cropped images' matrices.
      u: uniform draws of the depths.
      jitter: normal draws of `padded`.
      mode: how depths are chosen.
    """
    bins, is_kept = choose_bins(logits, u, mode)
    candidates = inside(unproject(bins, lidar_from_cropped), is_kept)
    points, is_valid = padded(candidates, jitter)
    chosen = points[farthest_points(points, is_valid, len(jitter))]
    stored = weights["stored"]
    instead = means_m(stored)[jnp.arange(len(jitter)) % len(stored)]
    chosen = jnp.where(candidates.count > 0, chosen, instead)
    lifted = jnp.concatenate([logit((chosen - LOWER_M) / EXTENT_M), weights["lifted"]], axis=-1)
    return Lifted(jnp.concatenate([lifted, stored]), candidates.count)
