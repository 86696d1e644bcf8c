import jax
import jax.numpy as jnp
import numpy as np

from occjax.config import DepthConfig
from occjax.losses.depth import depth_loss

BINS = DepthConfig(min_m=1.0, max_m=5.0, bins=4)


def loss_of(depths, logits, is_present=True):
    depths = jnp.asarray(depths, jnp.float32).reshape(1, 1, 1, -1)
    logits = jnp.asarray(logits, jnp.float32).reshape(1, 1, 1, -1, 4)
    return depth_loss(logits, depths, jnp.asarray([[is_present]]), BINS)


def test_by_hand_summed_over_bins_and_averaged_over_returns():
    logits = np.log([[0.1, 0.6, 0.2, 0.1]] * 3)
    expected = -np.log(0.6) - 2 * np.log(0.9) - np.log(0.8)
    np.testing.assert_allclose(loss_of([2.5, 0.0, 7.0], logits), expected, rtol=1e-5)


def test_each_bin_owns_its_half_open_metre():
    for depth, index in ((1.0, 0), (1.999, 0), (2.0, 1), (4.999, 3)):
        losses = [float(loss_of([depth], 10.0 * np.eye(4)[b])) for b in range(4)]
        assert np.argmin(losses) == index and min(losses) < 0.01


def test_returns_outside_the_bins_and_absent_cameras_count_nothing():
    gradient = jax.grad(lambda x: loss_of([0.0, 0.99, 5.0, 80.0], x))(jnp.ones((4, 4)))
    assert np.all(np.asarray(gradient) == 0)
    assert loss_of([2.5], [[0.0, 1, 2, 3]], is_present=False) == 0


def test_certain_and_wrong_stays_finite():
    value, gradient = jax.value_and_grad(lambda x: loss_of([1.5], x))(jnp.asarray([[0.0, 500.0, 0.0, 0.0]]))
    assert np.isfinite(value) and value > 100 and np.all(np.isfinite(gradient)) and np.any(np.asarray(gradient) != 0)
