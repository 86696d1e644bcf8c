"""Means over the part of an array that counts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_SHORT = 256


def sum_all(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Sum of all elements, float32, as a sum of short sums.

    One running sum over half a million voxels loses the fourth digit, and another one on another number of devices.
    """
    flat = values.astype(jnp.float32).reshape(-1)
    rows = jnp.pad(flat, (0, -flat.size % _SHORT)).reshape(-1, _SHORT)
    return jnp.sum(jnp.dot(rows, jnp.ones(_SHORT), precision=jax.lax.Precision.HIGHEST))


def masked_mean(
    values: Float[Array, "*shape"], weight: Float[Array, "*shape"] | Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """Weighted mean of `values`; 0 with a zero, finite gradient where every weight is 0.

    Values of weight 0 must still be finite: 0 times infinity is not 0.
    """
    weight = weight.astype(jnp.float32)
    count = sum_all(weight)
    return sum_all(values * weight) / jnp.where(count > 0, count, 1.0)
