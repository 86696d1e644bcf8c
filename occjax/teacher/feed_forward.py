"""Feed-forward block: two linear layers on every Gaussian; version 1 normalises first and carries its input."""

import jax
from jaxtyping import Array, Float

from occjax.teacher.layers import Weights, layer_norm, linear


def feed_forward(weights: Weights, x: Float[Array, "g c"]) -> Float[Array, "g d"]:
    """Version 2: the update, to be added. Version 1, with norm and shortcut: the new features, from normalised ones."""
    if "norm" in weights:
        x = layer_norm(weights["norm"], x)
    y = linear(weights["contract"], jax.nn.relu(linear(weights["expand"], x)))
    return y + linear(weights["shortcut"], x) if "shortcut" in weights else y
