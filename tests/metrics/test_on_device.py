import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.metrics.agreement import Agreement
from occjax.metrics.calibration import Calibration
from occjax.metrics.on_device import occupancy_histogram, summarise
from occjax.types import Batch, VoxelLabels


def batch_of(semantics, is_valid, teacher=None):
    return Batch(None, None, None, VoxelLabels(semantics, None), teacher, None, jnp.asarray(is_valid))


def test_calibration_by_hand():
    probability = jnp.asarray([0.1, 0.1, 0.9, 0.9, 0.5])
    is_occupied = jnp.asarray([False, True, True, True, False])
    counted = jnp.asarray([True, True, True, True, False])
    state = Calibration.empty().update(np.asarray(occupancy_histogram(probability, is_occupied, counted)))
    assert state.expected_error() == pytest.approx((2 * 0.4 + 2 * 0.1) / 4, abs=1e-3)
    assert state.merge(state).expected_error() == state.expected_error()


def test_honest_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    probability = rng.random(400_000).astype(np.float32)
    is_occupied = rng.random(probability.shape) < probability
    histogram = jax.jit(occupancy_histogram)(
        jnp.asarray(probability), jnp.asarray(is_occupied), jnp.ones(probability.shape, bool)
    )
    assert Calibration.empty().update(np.asarray(histogram)).expected_error() < 0.005


def test_nothing_counted_is_undefined_not_zero():
    assert np.isnan(Calibration.empty().expected_error())


def test_summary_keeps_samples_apart_and_leaves_padding_out():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(2, 4, 4, 2, NUM_CLASSES)), jnp.float32)
    semantics = jnp.asarray(rng.integers(0, 18, (2, 4, 4, 2)), jnp.uint8)
    summary = summarise(logits, batch_of(semantics, [True, False]), labels_kind="surroundocc", use_camera_mask=True)
    np.testing.assert_array_equal(summary.semantics, np.argmax(logits, -1))
    assert summary.calibration[0, 0].sum() == np.sum(np.asarray(semantics)[0] != 0)
    assert summary.calibration[1].sum() == 0
    assert summary.teacher is None


def test_agreement_by_hand():
    teacher = np.array([4, 4, 11, FREE], np.uint8).reshape(1, 2, 2)
    student = np.array([4, FREE, 11, FREE], np.uint8).reshape(1, 2, 2)
    known = np.array([True, True, True, True]).reshape(1, 2, 2)
    result = Agreement.empty().update(teacher, student, known, np.array([1.5, 0.5])).to_dict()
    assert result["same_class"] == 75 and result["same_class_occupied"] == pytest.approx(200 / 3)
    assert result["kl_nats"] == 0.5 and result["kl_nats_occupied"] == 0.5 and result["kl_nats_free"] == 0.5
    assert result["per_class"]["car"] == 50 and result["per_class"]["bus"] is None
