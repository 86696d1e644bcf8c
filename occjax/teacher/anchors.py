"""Anchors: the 28 numbers of a Gaussian as the network holds them, what they mean, and their embedding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from occjax.teacher.layers import Weights, mlp
from occjax.teacher.variants import GRID, TeacherVariant

LOWER_M = np.array(GRID.lower_m, np.float32)
EXTENT_M = np.array(GRID.upper_m, np.float32) - LOWER_M
# A sigmoid's input is clipped here, and the probability of a logit to that of ±9.21024, a little outside of it.
LOGIT_LIMIT, LARGEST_PROBABILITY = 9.21, 0.9999

POSITION, SCALE, ROTATION = slice(0, 3), slice(3, 6), slice(6, 10)


class Gaussians(NamedTuple):
    """Gaussians in the frame of LIDAR_TOP.

    Attributes:
      means: metres.
      scales: standard deviations along their own axes, metres.
      rotations: quaternions (w, x, y, z) of the turn from the frame to their axes.
      opacities: in 0..1.
      semantics: one value per class, whose meaning is the variant's.
    """

    means: Float[Array, "g 3"]
    scales: Float[Array, "g 3"]
    rotations: Float[Array, "g 4"]
    opacities: Float[Array, "g"]
    semantics: Float[Array, "g s"]


def sigmoid(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Sigmoid of the clipped input."""
    return jax.nn.sigmoid(jnp.clip(x, -LOGIT_LIMIT, LOGIT_LIMIT))


def logit(probability: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Inverse of the sigmoid, of the clipped input."""
    p = jnp.clip(probability, 1 - LARGEST_PROBABILITY, LARGEST_PROBABILITY)
    return jnp.log(p / (1 - p))


def means_m(anchors: Float[Array, "g c"]) -> Float[Array, "g 3"]:
    """Positions, metres; always inside the grid, whose ends the clipped sigmoid never reaches."""
    return sigmoid(anchors[:, POSITION]) * EXTENT_M + LOWER_M


def scales_m(anchors: Float[Array, "g c"], variant: TeacherVariant) -> Float[Array, "g 3"]:
    """Standard deviations, metres."""
    smallest, largest = variant.scale_range_m
    return smallest + (largest - smallest) * sigmoid(anchors[:, SCALE])


def unit(vectors: Float[Array, "*axes c"]) -> Float[Array, "*axes c"]:
    """Vectors of length 1; a zero vector stays zero."""
    return vectors / jnp.maximum(jnp.sqrt(jnp.square(vectors).sum(-1, keepdims=True)), 1e-12)


def own_from_lidar(rotations: Float[Array, "*axes 4"]) -> Float[Array, "*axes 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z), normalised first.

    They turn the frame's axes into the Gaussian's own: its transpose takes an offset along them to the frame. A zero
    quaternion gives a zero matrix.
    """
    w, x, y, z = jnp.moveaxis(unit(rotations), -1, 0)
    rows = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def gaussians_of_anchors(anchors: Float[Array, "g c"], variant: TeacherVariant) -> Gaussians:
    """What the head reads: the activated anchors."""
    first = ROTATION.stop + variant.has_opacity
    semantics = anchors[:, first:]
    return Gaussians(
        means=means_m(anchors),
        scales=scales_m(anchors, variant),
        rotations=anchors[:, ROTATION],
        opacities=sigmoid(anchors[:, ROTATION.stop]) if variant.has_opacity else jnp.ones(len(anchors)),
        semantics=jax.nn.softplus(semantics) if variant.softplus_semantics else semantics,
    )


def embed_anchors(weights: Weights, anchors: Float[Array, "g c"]) -> Float[Array, "g d"]:
    """Embedding of the raw values: a small network for each part, their sum, and one more."""
    parts = {"xyz": anchors[:, POSITION], "scale": anchors[:, SCALE], "rot": anchors[:, ROTATION]}
    first = ROTATION.stop
    if "opacity" in weights:
        parts["opacity"], first = anchors[:, first : first + 1], first + 1
    parts["semantics"] = anchors[:, first:]
    embedded = [mlp(weights[name], part) for name, part in parts.items()]
    return mlp(weights["output"], jnp.stack(embedded).sum(0))
