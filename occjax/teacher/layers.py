"""Layers of the teacher as functions of their weights: linear, layer normalisation, convolution."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Nested dicts and tuples of arrays, as `checkpoint.py` makes them.
Weights = Any

# Projections of metres onto pixels and voxel indices follow from these products: an accelerator's default would round
# their inputs to ten or seven bits.
PRECISION = jax.lax.Precision.HIGHEST


def linear(weights: Weights, x: Float[Array, "*axes c"]) -> Float[Array, "*axes d"]:
    """x @ kernel + bias."""
    return jnp.matmul(x, weights["kernel"], precision=PRECISION) + weights["bias"]


def layer_norm(weights: Weights, x: Float[Array, "*axes c"]) -> Float[Array, "*axes c"]:
    """Normalised over the last axis, then scaled and shifted."""
    centered = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centered).mean(-1, keepdims=True)
    return centered / jnp.sqrt(variance + 1e-5) * weights["scale"] + weights["bias"]


def mlp(weights: Weights, x: Float[Array, "*axes c"]) -> Float[Array, "*axes d"]:
    """Linear, ReLU, normalisation, for each layer of a list."""
    for layer in weights:
        x = layer_norm(layer["norm"], jax.nn.relu(linear(layer["linear"], x)))
    return x


def conv(
    weights: Weights, x: Float[Array, "b h w c"], *, stride: int = 1, padding: int = 0
) -> Float[Array, "b h2 w2 d"]:
    """Convolution, zeros around, plus bias; in the type of its kernel, its sums in float32."""
    y = jax.lax.conv_general_dilated(
        x.astype(weights["kernel"].dtype),
        weights["kernel"],
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=PRECISION,
        preferred_element_type=jnp.float32,
    )
    return y + weights["bias"]
