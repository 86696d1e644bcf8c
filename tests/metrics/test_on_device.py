import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.label_sets import LABEL_SETS
from occjax.metrics.agreement import Agreement
from occjax.metrics.on_device import compare_with_teacher, summarise
from occjax.targets.codec import encode_rows
from occjax.targets.moving import dense_log_probs
from occjax.types import Batch, TeacherTargets, VoxelCodes, VoxelLabels


def batch_of(semantics, is_valid, teacher=None):
    return Batch(None, None, None, VoxelLabels(semantics, None), teacher, None, jnp.asarray(is_valid))


def test_summary_keeps_samples_apart_and_leaves_padding_out():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(2, 4, 4, 2, NUM_CLASSES)), jnp.float32)
    semantics = jnp.asarray(rng.integers(0, 18, (2, 4, 4, 2)), jnp.uint8)
    summary = summarise(
        logits, batch_of(semantics, [True, False]), label_set=LABEL_SETS["surroundocc"], use_camera_mask=True
    )
    np.testing.assert_array_equal(summary.semantics, np.argmax(logits, -1))
    histogram = summary.calibration
    assert histogram.shape[:3] == (2, 1, 2) and histogram[0, 0, 0].sum() == np.sum(np.asarray(semantics)[0] != 0)
    assert histogram[1].sum() == 0
    assert summary.teacher is None


def test_agreement_by_hand():
    teacher = np.array([4, 4, 11, FREE], np.uint8).reshape(1, 2, 2)
    student = np.array([4, FREE, 11, FREE], np.uint8).reshape(1, 2, 2)
    known = np.array([True, True, True, True]).reshape(1, 2, 2)
    result = Agreement.empty().update(teacher, student, known, np.array([1.5, 0.5])).compute()
    assert result["same_class"] == 75 and result["same_class_occupied"] == pytest.approx(200 / 3)
    assert result["kl_nats"] == 0.5 and result["kl_nats_occupied"] == 0.5 and result["kl_nats_free"] == 0.5
    assert result["per_class"]["car"] == 50 and result["per_class"]["bus"] is None


def test_comparison_with_the_teacher_equals_the_dense_one():
    shape = (6, 5, 4)
    rng = np.random.default_rng(2)
    rows = rng.dirichlet(np.full(NUM_CLASSES, 0.3), 40).astype(np.float32)
    index = np.sort(rng.choice(120, 40, replace=False)).astype(np.int32)
    background = np.array([1e-4] * 17 + [1 - 17e-4], np.float32)
    free, levels = encode_rows(rows)
    known = rng.random(120) < 0.8
    teacher = TeacherTargets(VoxelCodes(index, free, levels, np.log(background), np.packbits(known)), None)
    dense = dense_log_probs(teacher, shape)
    logits = jnp.asarray(rng.normal(size=(*shape, NUM_CLASSES)), jnp.float32)
    found = compare_with_teacher(jax.nn.log_softmax(logits), jax.tree.map(jnp.asarray, teacher))
    np.testing.assert_array_equal(found.semantics, dense.argmax(-1))
    np.testing.assert_array_equal(found.known, known.reshape(shape))
    kl = np.sum(np.exp(dense) * (dense - np.asarray(jax.nn.log_softmax(logits))), -1)
    is_free = dense.argmax(-1) == FREE
    expected = [kl[known.reshape(shape) & which].sum() for which in (~is_free, is_free)]
    np.testing.assert_allclose(found.kl_sum, expected, rtol=1e-4)
    # A student that says what the teacher says.
    same = compare_with_teacher(jnp.asarray(dense), jax.tree.map(jnp.asarray, teacher))
    assert np.abs(same.kl_sum).max() < 1e-3
