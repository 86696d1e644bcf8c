"""What is gathered by a plan is what is scattered point by point."""

import jax.numpy as jnp
import numpy as np
import pytest

from occjax.models.gather_splat import gather_splat, plan_splat
from occjax.models.splat import ROW, splat

CELLS = 12


def scattered(context, weights, cells):
    """Point by point, float64."""
    total = np.zeros((CELLS, context.shape[-1]))
    for index, cell in np.ndenumerate(cells[0]):
        if cell < CELLS:
            total[cell] += np.float64(weights[(0, *index)]) * context[(0, *index[:-1])]
    return total


def of_seed(seed, shape=(2, 6, 7, 9), busy=0.5):
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(1, *shape[:3], 5)).astype(np.float32)
    weights = rng.random((1, *shape)).astype(np.float32)
    cells = rng.integers(0, CELLS + 4, (1, *shape)).clip(0, CELLS)
    # One cell has more points than two turns of rows hold.
    cells = np.where(rng.random(cells.shape) < busy, 3, cells).astype(np.int32)
    return context, weights, cells


@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_every_point_is_summed_once(busy):
    context, weights, cells = of_seed(0, busy=busy)
    cells[cells == 5] = CELLS  # a cell without a point
    plan = plan_splat(cells[0], CELLS)
    arrays = (jnp.asarray(context), jnp.asarray(weights))
    found = gather_splat(*arrays, plan)
    np.testing.assert_allclose(found[0], scattered(context, weights, cells), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, splat(*arrays, jnp.asarray(cells), CELLS), rtol=1e-5, atol=1e-5)
    assert not found[0, 5].any() and plan.row_of_cell[5] == 0
    largest = np.bincount(cells.ravel())[:CELLS].max()
    turns = 1
    while ROW**turns < largest:
        turns += 1
    assert len(plan.merges) == turns - 1 and (turns == 3) == (busy > 0)


def test_a_rig_that_sees_nothing_sums_nothing():
    context, weights, cells = of_seed(1)
    plan = plan_splat(np.full_like(cells[0], CELLS), CELLS)
    assert not plan.row_of_cell.any() and plan.point.shape == (0, ROW)
