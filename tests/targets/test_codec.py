"""The ten-byte codes: what they lose, and the column rule by hand."""

import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.targets.codec import decode_rows, encode_rows, floored_log_probs, kl_divergence, level_bytes
from occjax.targets.column_rule import column_log_probs_from_voxels


def dirichlet(concentration, count=4000, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(NUM_CLASSES, concentration), count).astype(np.float32)


def round_trip_kl(rows, temperature=1.0):
    decoded = decode_rows(*encode_rows(rows), rows.shape[1])
    log_p, log_q = floored_log_probs(rows) / temperature, decoded / temperature
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    log_q = log_q - np.log(np.exp(log_q).sum(-1, keepdims=True))
    return kl_divergence(log_p, log_q)


@pytest.mark.parametrize("concentration", [0.05, 0.3, 1.0, 10.0])
def test_codes_lose_little_on_peaked_and_flat_rows(concentration):
    rows = dirichlet(concentration)
    kl = round_trip_kl(rows)
    assert kl.mean() < 6e-3 and kl.min() > -1e-5
    assert round_trip_kl(rows, temperature=2.0).mean() < 6e-3


@pytest.mark.parametrize("tail", [4e-4, 1e-3, 3e-3, 1e-2])
def test_a_flat_tail_keeps_its_mass(tail):
    rows = np.full((1, NUM_CLASSES), tail, np.float32)
    rows[0, 4] = 0.7
    rows[0, FREE] = 1 - rows[0, :FREE].sum()
    decoded = np.exp(decode_rows(*encode_rows(rows), NUM_CLASSES))[0]
    np.testing.assert_allclose(decoded[:FREE].sum() - decoded[4], 16 * tail, rtol=0.08)
    assert abs(decoded[4] - 0.7) < 0.02


def test_decoded_rows_are_distributions_in_class_order():
    rows = np.full((NUM_CLASSES, NUM_CLASSES), 0.01, np.float32)
    np.fill_diagonal(rows, 1 - 0.01 * (NUM_CLASSES - 1))
    free, levels = encode_rows(rows)
    assert free.dtype == np.uint8 and levels.shape == (NUM_CLASSES, level_bytes(NUM_CLASSES)) and levels.shape[1] == 9
    decoded = decode_rows(free, levels, NUM_CLASSES)
    np.testing.assert_array_equal(decoded.argmax(-1), np.arange(NUM_CLASSES))
    np.testing.assert_allclose(np.exp(decoded).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("rows", [np.eye(NUM_CLASSES), np.zeros((1, NUM_CLASSES)), np.ones((1, NUM_CLASSES))])
def test_extreme_rows_stay_finite(rows):
    decoded = decode_rows(*encode_rows(rows.astype(np.float32)), NUM_CLASSES)
    assert np.isfinite(decoded).all()
    if rows.shape[0] == NUM_CLASSES:
        np.testing.assert_array_equal(decoded.argmax(-1), np.arange(NUM_CLASSES))
        assert np.exp(decoded).max(-1).min() > 0.999


def test_column_rule_by_hand():
    column = np.zeros((3, NUM_CLASSES), np.float32)
    column[0, 11], column[0, FREE] = 0.5, 0.5  # road
    column[1, 4], column[1, FREE] = 0.25, 0.75  # car
    column[2, FREE] = 1.0
    bev = np.exp(column_log_probs_from_voxels(floored_log_probs(column), None, np))
    p_free = 0.5 * 0.75
    np.testing.assert_allclose(bev[FREE], p_free, rtol=1e-4)
    np.testing.assert_allclose(bev[11], (1 - p_free) * 0.5 / 0.75, rtol=1e-3)
    np.testing.assert_allclose(bev[4], (1 - p_free) * 0.25 / 0.75, rtol=1e-3)
    np.testing.assert_allclose(bev.sum(), 1, rtol=1e-3)
    without_road = np.exp(column_log_probs_from_voxels(floored_log_probs(column), np.array([False, True, True]), np))
    np.testing.assert_allclose(without_road[[4, FREE]], [0.25, 0.75], rtol=1e-3)


def test_column_rule_is_not_a_maximum_over_z():
    column = floored_log_probs(np.tile(np.array([*[0.2 / FREE] * FREE, 0.8], np.float32), (16, 1)))
    bev = column_log_probs_from_voxels(column, None, np)
    assert np.exp(bev[FREE]) == pytest.approx(0.8**16, rel=1e-3)  # a maximum would say 0.8
