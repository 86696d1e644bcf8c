"""Outputs: the form in which distributions leave the teacher, and their collapse to a bird's-eye view."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float16


def half_precision(values: Float[Array, "x y z k"]) -> Float16[Array, "x y z k"]:
    """What all files are made from: probabilities below 6e-8 become 0."""
    return values.astype(jnp.float16)


def topmost_distribution(probabilities: Float[Array, "*axes z k"]) -> Float[Array, "*axes k"]:
    """Distribution of the class seen from above: that of the topmost voxel that is not free, where voxels are drawn.

    Args:
      probabilities: rows sum to 1, free last, z upward.

    Returns:
      rows sum to 1; the last is the probability that the column is free.
    """
    free = probabilities[..., -1]  # [..., Z]
    # Free from the top down to each voxel, itself included.
    free_to = jnp.flip(jnp.cumprod(jnp.flip(free, axis=-1), axis=-1), axis=-1)
    free_above = jnp.concatenate([free_to[..., 1:], jnp.ones_like(free[..., :1])], axis=-1)
    seen = (probabilities[..., :-1] * free_above[..., None]).sum(-2)
    return jnp.concatenate([seen, free_to[..., :1]], axis=-1)
