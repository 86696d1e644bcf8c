"""Farthest-point sampling: of many points, those that cover space most evenly (Gonzalez 1985)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Largest distances are found block by block: one search over all would be four times as slow on a CPU.
_BLOCK = 512


def farthest_points(points: Float[Array, "r 3"], is_valid: Bool[Array, "r"], count: int) -> Int[Array, "count"]:
    """Indices of `count` points in the order of choice: the first one, then always the farthest from all chosen.

    `is_valid` must hold for the first point. Where fewer than `count` distinct points are valid, some repeat.
    """
    padding = -len(points) % _BLOCK
    coordinates = jnp.pad(points, ((0, padding), (0, 0))).T.reshape(3, -1, _BLOCK)
    # Squared distance to the nearest chosen point; below zero it is never the largest.
    nearest = jnp.where(jnp.pad(is_valid, (0, padding)), jnp.inf, -1.0).reshape(-1, _BLOCK)

    def choose(step, state):
        nearest, chosen = state
        block, place = chosen[step - 1] // _BLOCK, chosen[step - 1] % _BLOCK
        last = coordinates[:, block, place]
        nearest = jnp.minimum(nearest, jnp.square(coordinates - last[:, None, None]).sum(0))
        block = jnp.argmax(nearest.max(1)).astype(jnp.int32)
        place = jnp.argmax(nearest[block]).astype(jnp.int32)
        return nearest, chosen.at[step].set(block * _BLOCK + place)

    return jax.lax.fori_loop(1, count, choose, (nearest, jnp.zeros(count, jnp.int32)))[1]
