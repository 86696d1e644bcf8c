"""Calibration and its temperature: by hand, on probabilities that are honest, and on ones that were made dishonest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.metrics.across_processes import merge
from occjax.metrics.calibration import CANDIDATES, OWN, Calibration
from occjax.metrics.on_device import calibration_counts

SHAPE = (50, 40, 10)
CAR = 4
counts = jax.jit(calibration_counts, static_argnames="temperatures")


def state_of(log_probs, truth, counted=None, temperatures=OWN):
    """One sample's state; arrays without a batch axis, truth as classes or whether it is a car."""
    counted = np.ones(truth.shape, bool) if counted is None else counted
    truth = np.where(truth, np.uint8(CAR), np.uint8(FREE)) if truth.dtype == bool else truth
    found = counts(*(jnp.asarray(x)[None] for x in (log_probs, truth, counted)), temperatures=temperatures)
    return Calibration.empty(temperatures).update(jax.tree.map(lambda x: np.asarray(x[0]), found))


def logits_of(occupied):
    """Log-probabilities of 18 classes, those of the occupied ones alike."""
    log_probs = np.repeat(np.log(occupied / FREE)[..., None], NUM_CLASSES, axis=-1)
    log_probs[..., FREE] = np.log1p(-occupied)
    return log_probs.astype(np.float32)


def test_calibration_by_hand():
    probability = np.array([0.1, 0.1, 0.9, 0.9, 0.5]).reshape(1, 1, 5)
    is_occupied = np.array([False, True, True, True, False]).reshape(1, 1, 5)
    counted = np.array([True, True, True, True, False]).reshape(1, 1, 5)
    state = state_of(logits_of(probability), is_occupied, counted, (1.0, 2.0))
    assert state.compute() == pytest.approx((2 * 0.4 + 2 * 0.1) / 4, abs=1e-3)
    assert merge(state, state).compute() == state.compute()
    # At temperature 2 each class has the root of its probability: 17 roots of p/17 against one of 1 - p.
    odds = FREE * np.sqrt(np.array([0.1, 0.9]) / FREE) / np.sqrt([0.9, 0.1])
    low, high = odds / (1 + odds)
    best = state.best()
    assert best["value"] == 2.0
    assert best["occupancy_calibration_error"] == pytest.approx(100 * (abs(low - 0.5) + (1 - high)) / 2, abs=0.1)


def test_honest_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    probability = rng.random((100, 100, 40))
    state = state_of(logits_of(probability), rng.random(probability.shape) < probability)
    assert state.compute() < 0.005 and state.best() is None


def test_nothing_counted_is_undefined_not_zero():
    assert np.isnan(Calibration.empty().compute())
    assert Calibration.empty((1.0, 2.0)).best() is None


@pytest.mark.parametrize("sharpened", [0.6, 1.0, 2.3])
def test_the_temperature_that_was_put_on_is_found_again(sharpened):
    """Truth drawn from softmax(logits): a network that says softmax(logits · sharpened) wants that temperature."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (*SHAPE, NUM_CLASSES))
    # As in a street: most voxels free, and few of them doubtful.
    logits[..., FREE] += rng.normal(4, 4, SHAPE)
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(-1).astype(np.uint8)
    given = np.asarray(jax.nn.log_softmax(logits * sharpened), np.float32)
    state = state_of(given, truth, temperatures=(*OWN, *CANDIDATES))
    best = state.best()
    assert best["value"] == pytest.approx(sharpened, rel=0.08) and best["value"] in CANDIDATES
    assert best["occupancy_calibration_error"] < 1.0
    if sharpened != 1:
        assert best["occupancy_calibration_error"] < 0.3 * 100 * state.compute()


def test_voxels_that_do_not_count_have_no_say():
    rng = np.random.default_rng(2)
    probability = rng.random(SHAPE)
    is_occupied = rng.random(SHAPE) < probability
    counted = rng.random(SHAPE) < 0.5
    truth = np.where(is_occupied, np.uint8(CAR), np.uint8(FREE))
    unknown = np.where(counted, truth, np.uint8(255))
    one, other = (state_of(logits_of(probability), t, counted, (*OWN, 1.5)) for t in (truth, unknown))
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts[0, 0].sum() == counted.sum()


def test_a_fit_makes_nothing_worse():
    """Of a network that is wrong in ways that no temperature mends."""
    rng = np.random.default_rng(3)
    probability = rng.random(SHAPE)
    state = state_of(logits_of(probability), rng.random(SHAPE) < 0.5 * probability**2, temperatures=(*OWN, *CANDIDATES))
    assert 1.0 in CANDIDATES and state.best()["occupancy_calibration_error"] <= 100 * state.compute()


def test_a_voxel_that_is_free_beyond_doubt_is_counted():
    log_probs = np.full((1, 1, 1, NUM_CLASSES), -60, np.float32)
    log_probs[..., FREE] = 0
    state = state_of(log_probs, np.ones((1, 1, 1), bool), temperatures=(1.0, 2.0))
    assert state.counts[:, :, 0].tolist() == [[1, 1], [1, 1]]
