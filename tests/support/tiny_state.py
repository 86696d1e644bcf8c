"""A training state of a few numbers, for whatever only carries it about."""

import jax.numpy as jnp

from occjax.train.state import TrainState


def tiny_state(value: float = 0.0) -> TrainState:
    """One number of each kind."""
    number = jnp.float32(value)
    student = {"params": {"w": number}, "batch_stats": {"mean": number}}
    return TrainState(
        jnp.int32(value), {"student": {"w": number}, "adapter": {}}, {"mean": number}, {"mu": number}, student
    )
