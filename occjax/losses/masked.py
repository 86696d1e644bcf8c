"""Masked means: over the part of an array that counts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from occjax.system.cpu import sum_all


def masked_mean(
    values: Float[Array, "*shape"], weight: Float[Array, "*shape"] | Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """Weighted mean of `values`; 0 with a zero, finite gradient where every weight is 0.

    Values of weight 0 must still be finite: 0 times infinity is not 0.
    """
    weight = weight.astype(jnp.float32)
    count = sum_all(weight)
    # The denominator is chosen, not the quotient: the gradient of the branch not taken would be 0 · ∞.
    return sum_all(values * weight) / jnp.where(count > 0, count, 1.0)
