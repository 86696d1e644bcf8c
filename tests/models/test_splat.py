"""The splat sums every point into its cell and nowhere else, forwards and backwards, and scatters none of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.models.splat import ROW, rows_of_points, splat

SHAPE = (2, 2, 3, 4, 5)  # B, N, h, w, D: 120 points a sample
CELLS = 7


def points(heavy: float = 0.5):
    """Context, weights, cells: `heavy` of the points in cell 3, some outside, none in cell 5."""
    r = np.random.default_rng(0)
    cells = r.choice([0, 1, 2, 4, 6, CELLS], SHAPE)
    cells[r.random(SHAPE) < heavy] = 3
    return r.normal(size=(*SHAPE[:4], 6)).astype(np.float32), r.random(SHAPE).astype(np.float32), cells


@pytest.mark.parametrize("heavy", [0.0, 0.5, 1.0])
def test_against_a_loop_with_gradients(heavy):
    context, weights, cells = points(heavy)
    if 0 < heavy < 1:
        assert np.bincount(cells[0].ravel())[3] > 2 * ROW  # more than one row, the last one not full
    expected = np.zeros((2, CELLS, 6))
    for b, n, h, w, d in np.ndindex(cells.shape):
        if cells[b, n, h, w, d] < CELLS:
            expected[b, cells[b, n, h, w, d]] += weights[b, n, h, w, d] * context[b, n, h, w]
    probe = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    found, pullback = jax.jit(lambda c, w: jax.vjp(lambda c, w: splat(c, w, jnp.asarray(cells), CELLS), c, w))(
        context, weights
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found[:, 5] == 0).all()
    of_context, of_weights = pullback(jnp.asarray(probe))
    picked = np.concatenate([probe, np.zeros((2, 1, 6))], axis=1)
    picked = np.stack([picked[b][cells[b]] for b in range(2)])  # [B, N, h, w, D, C]
    np.testing.assert_allclose(of_weights, np.einsum("bnhwdc,bnhwc->bnhwd", picked, context), atol=1e-5)
    np.testing.assert_allclose(of_context, np.einsum("bnhwdc,bnhwd->bnhwc", picked, weights), atol=1e-5)


def test_rows_hold_each_inside_point_once_and_one_cell_each():
    cells = points()[2][0].ravel()
    cell, point, is_point = map(np.asarray, rows_of_points(jnp.asarray(cells), CELLS))
    np.testing.assert_array_equal(np.sort(point[is_point]), np.flatnonzero(cells < CELLS))
    np.testing.assert_array_equal(cells[point][is_point], np.broadcast_to(cell[:, None], point.shape)[is_point])
    assert (np.diff(cell) >= 0).all()
    # The worst case: every cell has one point more than full rows.
    worst = np.repeat(np.arange(CELLS), ROW + 1)
    cell, _, is_point = map(np.asarray, rows_of_points(jnp.asarray(worst), CELLS))
    assert is_point.sum() == worst.size and (cell < CELLS).sum() == 2 * CELLS


def test_backwards_nothing_is_scattered_and_forwards_only_rows():
    context, weights, cells = (jnp.asarray(x) for x in points())
    forward = str(jax.make_jaxpr(lambda c, w: splat(c, w, cells, CELLS))(context, weights))
    rows = SHAPE[1] * SHAPE[2] * SHAPE[3] * SHAPE[4] // ROW + CELLS
    assert forward.count("scatter-add") == 1 and f"f32[2,{rows},6]" in forward
    # Linear in its cells, so that of value and gradient the gradient alone is left.
    _, pullback = jax.vjp(lambda c, w: splat(c, w, cells, CELLS), context, weights)
    assert "scatter" not in str(jax.make_jaxpr(pullback)(jnp.ones((2, CELLS, 6))))
