"""Refinement: features move each Gaussian and give it a new shape, opacity and semantics."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from occjax.teacher.anchors import EXTENT_M, LOWER_M, POSITION, ROTATION, logit, means_m, sigmoid, unit
from occjax.teacher.layers import Weights, layer_norm, linear
from occjax.teacher.variants import TeacherVariant


def refine(
    weights: Weights,
    features: Float[Array, "g d"],
    embedding: Float[Array, "g d"],
    anchors: Float[Array, "g c"],
    variant: TeacherVariant,
) -> Float[Array, "g c"]:
    """New anchors. Only the position builds on the old one; everything else is replaced."""
    h = features + embedding
    for block in weights["blocks"]:
        for layer in block["linears"]:
            h = jax.nn.relu(linear(layer, h))
        h = layer_norm(block["norm"], h)
    update = linear(weights["output"], h)
    step = 2 * sigmoid(update[:, POSITION]) - 1
    if variant.version == 2:
        # Bounded in metres, and clamped to the grid by the logit.
        moved = means_m(anchors) + step * np.array(variant.step_m, np.float32)
        position = logit((moved - LOWER_M) / EXTENT_M)
    else:
        # In logits, where the sigmoid is steepest at the grid's centre: four times a relative length.
        position = anchors[:, POSITION] + step * (4 * np.array(variant.step_m, np.float32) / EXTENT_M)
    rotation = unit(update[:, ROTATION])
    return jnp.concatenate(
        [position, update[:, POSITION.stop : ROTATION.start], rotation, update[:, ROTATION.stop :]], -1
    )
