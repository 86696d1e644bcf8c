"""Schedule, decay mask and frozen parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.config import TrainConfig
from occjax.train.optimizer import learning_rate_schedule, make_optimizer


def test_schedule_by_hand():
    schedule = learning_rate_schedule(TrainConfig(learning_rate=1.0, warmup_steps=10, warmup_factor=0.1), 110)
    np.testing.assert_allclose([float(schedule(s)) for s in (0, 5, 10, 60, 110)], [0.1, 0.55, 1.0, 0.5, 0.0], atol=1e-6)


def test_short_run_still_reaches_its_peak():
    schedule = learning_rate_schedule(TrainConfig(learning_rate=1.0, warmup_steps=200), 10)
    assert max(float(schedule(s)) for s in range(10)) == pytest.approx(1.0)


@pytest.fixture
def params():
    return {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "stem": jnp.ones((2, 2))}


def run(params, grads, **overrides):
    config = TrainConfig(warmup_steps=0, learning_rate=0.1, **overrides)
    trainable = {"kernel": True, "bias": True, "stem": False}
    optimizer = make_optimizer(config, 100, trainable)
    state = optimizer.init(params)
    updates, _ = optimizer.update(grads, state, params)
    return updates, state


def test_decay_spares_biases_and_frozen_parameters(params):
    updates, _ = run(params, jax.tree.map(jnp.zeros_like, params), weight_decay=0.5)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5, rtol=1e-5)
    np.testing.assert_array_equal(updates["bias"], 0)
    np.testing.assert_array_equal(updates["stem"], 0)


def test_frozen_parameters_get_no_update_no_moments_and_no_share_in_the_norm(params):
    grads = {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.zeros(2), "stem": jnp.full((2, 2), 1e6)}
    updates, state = run(params, grads, clip_norm=1.0, weight_decay=0.0)
    np.testing.assert_array_equal(updates["stem"], 0)
    # The norm of what trains is 1: nothing is clipped, and Adam's first step is the learning rate.
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-3)
    moments = [leaf.shape for leaf in jax.tree.leaves(state) if getattr(leaf, "ndim", 0)]
    assert sorted(moments) == sorted([(2, 2), (2,)] * 2)


def test_a_gradient_beyond_the_norm_is_cut_to_it():
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    config = TrainConfig(warmup_steps=0, learning_rate=0.1, weight_decay=0.0, clip_norm=1.0)
    optimizer = make_optimizer(config, 10_000, {"kernel": True, "bias": True})
    state = optimizer.init(params)
    # Adam's first step is of any gradient the same, its second is not: after 100, a gradient of 1 would move by 0.068
    # (first moment 9.1 / 0.19, second 9.991 / 0.001999); after a gradient of 1, by the whole learning rate.
    for size in (100.0, 1.0):
        updates, state = optimizer.update({"kernel": jnp.full((1, 1), size), "bias": jnp.zeros(1)}, state, params)
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-3)
