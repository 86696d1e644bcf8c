"""Missed cells by hand: what counts, what is near, and what is an obstacle."""

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.across_processes import merge
from occjax.metrics.missed import Missed

# Cells of 2 m from -24 m on: centres at -23, -21, ..., 23.
GRID = VoxelGrid("ego", (-24.0, -24.0, -1.0), 2.0, (24, 24, 2))
CAR, ROAD, OTHERS = 4, 11, 0


def column(x_m, y_m):
    return int((x_m + 24) // 2), int((y_m + 24) // 2)


def test_missed_cells_by_hand():
    truth = np.full(GRID.shape, FREE, np.uint8)
    prediction = truth.copy()
    # (5, 5) is 7.1 m away, (7, 9) 11.4 m, (19, 9) 21.02 m; (-9, 3) 9.5 m, (13, -15) 19.8 m.
    for x_m, y_m, kind, said in (
        (5, 5, CAR, FREE),
        (-9, 3, CAR, ROAD),  # occupied all the same
        (-5, -5, ROAD, FREE),
        (7, 9, CAR, FREE),
        (13, -15, ROAD, ROAD),
        (19, 9, CAR, FREE),
        (1, 1, OTHERS, FREE),  # which SurroundOcc does not count
        (1, 3, 255, FREE),
        (3, 1, FREE, CAR),
    ):
        truth[(*column(x_m, y_m), 1)], prediction[(*column(x_m, y_m), 1)] = kind, said
    state = Missed.empty(LABEL_SETS["surroundocc"], GRID).update(prediction, truth, None)
    assert state.cells.tolist() == [[3, 5], [2, 3]] and state.missed.tolist() == [[2, 3], [1, 2]]
    shares = merge(state, state).compute()
    assert shares["occupied"] == {"10 m": pytest.approx(200 / 3), "20 m": pytest.approx(60)}
    assert shares["obstacles"] == {"10 m": pytest.approx(50), "20 m": pytest.approx(200 / 3)}
    assert Missed.empty(LABEL_SETS["surroundocc"], GRID).compute()["occupied"] == {"10 m": None, "20 m": None}
    # Where there is a camera mask, only what it sees.
    mask = np.zeros(GRID.shape, bool)
    mask[column(5, 5)] = True
    seen = Missed.empty(LABEL_SETS["occ3d"], GRID).update(prediction, truth, mask)
    assert seen.cells.tolist() == [[1, 1], [1, 1]] and seen.missed.tolist() == [[1, 1], [1, 1]]
