"""What a step passes on to the next: noise of its own, the average of what it made; and what the student is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import make_rig

from occjax.config import AugmentConfig, Config
from occjax.train import step
from occjax.train.learner import Learner
from occjax.train.state import TrainState
from occjax.types import Batch, Predictions

NO_BATCH = Batch(*[None] * len(Batch._fields))


def make_learner(*, seed=0, photometric=False) -> Learner:
    """A learner without a student, whose optimizer subtracts half of the gradient."""
    config = Config(augment=AugmentConfig(photometric=photometric))
    config.train.seed = seed
    return Learner(**dict.fromkeys(Learner._fields) | {"config": config, "optimizer": optax.sgd(0.5)})


def state_of(number: int) -> TrainState:
    """The state before update `number` + 1: one parameter of 10 and one statistic of 20, with averages 1 and 2."""
    params = {"student": {"w": jnp.float32(10)}, "adapter": {}}
    ema = {"params": {"w": jnp.float32(1)}, "batch_stats": {"s": jnp.float32(2)}}
    opt_state = make_learner().optimizer.init(params)
    return TrainState(jnp.int32(number), params, {"s": jnp.float32(20)}, opt_state, ema)


@pytest.fixture
def gradients_of_4_and_noise(monkeypatch):
    """The network and its losses replaced: the gradient is 4, the statistic becomes 40, `noise` is the key's."""

    def accumulated_gradients(learner, params, batch_stats, batch, key, *rest):
        return (
            {"student": {"w": jnp.float32(4)}, "adapter": {}},
            {"loss": jnp.float32(3), "noise": jax.random.uniform(key)},
            {"s": jnp.float32(40)},
        )

    monkeypatch.setattr(step, "accumulated_gradients", accumulated_gradients)


def test_each_step_and_each_seed_has_noise_of_its_own(gradients_of_4_and_noise):
    def noise(number, seed):
        return float(step.step(make_learner(seed=seed), state_of(number), NO_BATCH)[1]["noise"])

    draws = [noise(number, seed) for number in (0, 1, 2) for seed in (0, 1)]
    assert len(set(draws)) == 6
    # The step number alone decides: a resumed run draws what the uninterrupted one would.
    assert noise(1, 0) == draws[2]


def test_averages_are_of_the_parameters_and_statistics_that_the_step_made(gradients_of_4_and_noise):
    state, metrics = step.step(make_learner(), state_of(0), NO_BATCH)
    # Downhill: 10 - 0.5 * 4. Of the averages a tenth stays at the first step: 0.1 * 1 + 0.9 * 8, 0.1 * 2 + 0.9 * 40.
    assert int(state.step) == 1 and float(state.params["student"]["w"]) == 8 and float(state.batch_stats["s"]) == 40
    assert float(state.ema["params"]["w"]) == pytest.approx(7.3)
    assert float(state.ema["batch_stats"]["s"]) == pytest.approx(36.2)
    assert float(metrics["grad_norm"]) == 4 and bool(metrics["is_finite"])


def test_averages_and_last_weights_are_told_apart():
    state = state_of(0)
    assert state.student("ema") == ({"w": 1}, {"s": 2})
    assert state.student("raw") == ({"w": 10}, {"s": 20})


@pytest.fixture
def shown_images(monkeypatch):
    """The student replaced by one that predicts what it is shown; `shown(learner, key)` [B, N, H, W, 3]."""
    images = np.random.default_rng(0).integers(0, 255, (1, 3, 8, 8, 3), np.uint8)
    batch = NO_BATCH._replace(
        images=jnp.asarray(np.repeat(images, 2, axis=0)),
        rig=make_rig(batch=2),
        sample_index=jnp.int32([5, 9]),
        is_valid=jnp.ones(2, bool),
    )

    def apply_student(graph, params, batch_stats, images, rig, *, train, dropout_keys):
        assert train
        return Predictions(images, None, None, None, jax.random.key_data(dropout_keys)), batch_stats

    monkeypatch.setattr(step, "apply_student", apply_student)

    def shown(learner, key):
        found = jax.jit(lambda key: step.forward(learner, {}, {}, batch, key))(jax.random.key(key))
        return jax.device_get(jax.tree.leaves(found))

    return images, shown


def test_without_photometric_distortion_images_are_normalised_and_nothing_else(shown_images):
    images, shown = shown_images
    expected = (images - np.float32([123.675, 116.28, 103.53])) / np.float32([58.395, 57.12, 57.375])
    np.testing.assert_allclose(shown(make_learner(), 0)[0], np.repeat(expected, 2, axis=0), atol=1e-5)


def test_photometric_distortion_reaches_the_student_anew_for_each_key_sample_and_camera(shown_images):
    images, shown = shown_images
    plain = shown(make_learner(), 0)[0]
    learner = make_learner(photometric=True)
    first, second = shown(learner, 0), shown(learner, 1)
    # One of 32 images keeps all of its colours; of six, some do not.
    assert np.abs(first[0] - plain).max() > 0.1
    assert np.any(first[0] != second[0]) and np.any(first[0][0] != first[0][1])
    # In the range of colours: distorted before they are normalised.
    assert first[0].min() >= plain.min() - 2.5 and first[0].max() <= 2.65
    # So do the keys of dropout.
    assert np.any(first[1] != second[1])
