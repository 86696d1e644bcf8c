"""Means over the part of an array that counts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(
    values: Float[Array, "*shape"], weight: Float[Array, "*shape"] | Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """Weighted mean of `values`; 0 with a zero, finite gradient where every weight is 0.

    Values of weight 0 must still be finite: 0 times infinity is not 0.
    """
    weight = weight.astype(jnp.float32)
    total = weight.sum()
    return jnp.sum(values * weight) / jnp.where(total > 0, total, 1.0)
