"""Labels on a coarser grid: blocks by hand, and that only whole factors pool."""

import numpy as np
import pytest

from occjax.classes import FREE, IGNORE
from occjax.config import Config
from occjax.config_checks import problems
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.pooling import highest_occupied, pool_labels, pooling_factor

COARSE = VoxelGrid("lidar", (-50.0, -50.0, -5.0), 1.0, (100, 100, 8))


def block(*values):
    return np.array(values, np.uint8).reshape(2, 2, 2)


F, U = FREE, IGNORE


@pytest.mark.parametrize(
    "values, pooled",
    [
        ((F, F, F, F, F, F, F, F), F),
        ((F, F, F, F, F, F, F, 4), 4),  # a thin thing does not vanish
        ((F, 3, 3, 4, F, F, F, F), 3),
        ((F, 4, 3, F, F, F, F, F), 3),  # the lower number of two
        ((U, U, U, U, U, U, U, U), U),
        ((U, U, U, U, U, U, U, F), F),
        ((U, U, U, U, U, 16, F, F), 16),
    ],
)
def test_a_block_is_free_only_if_all_that_is_known_is(values, pooled):
    found, mask = pool_labels(block(*values), None, 2)
    assert found.tolist() == [[[pooled]]] and found.dtype == np.uint8 and mask is None


def test_what_the_cameras_see_of_a_block_speaks_for_it():
    seen = np.zeros((2, 2, 4), bool)
    seen[0, 0, 0] = True
    semantics = np.full((2, 2, 4), 5, np.uint8)
    semantics[0, 0, 0] = FREE
    found, mask = pool_labels(semantics, seen, 2)
    assert found.tolist() == [[[FREE, 5]]] and mask.tolist() == [[[True, False]]]


def test_every_block_is_where_its_voxels_are():
    rng = np.random.default_rng(0)
    semantics = np.where(rng.random((8, 6, 4)) < 0.5, FREE, rng.integers(0, 17, (8, 6, 4))).astype(np.uint8)
    pooled, _ = pool_labels(semantics, None, 2)
    for x, y, z in np.ndindex(pooled.shape):
        inside = semantics[2 * x : 2 * x + 2, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].ravel()
        occupied = inside[inside < FREE]
        assert pooled[x, y, z] == (np.bincount(occupied).argmax() if len(occupied) else FREE)


def test_whole_factors_pool_and_others_are_refused_in_the_words_of_the_configuration():
    assert pooling_factor(SURROUNDOCC_GRID, SURROUNDOCC_GRID) == 1
    assert pooling_factor(SURROUNDOCC_GRID, COARSE) == 2
    assert pooling_factor(SURROUNDOCC_GRID, VoxelGrid("lidar", (-20.0, -20.0, -5.0), 2.0, (20, 20, 4))) == 4
    assert pooling_factor(OCC3D_GRID, VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.8, (100, 100, 8))) == 2
    config = Config()
    for size, shape in ((0.75, (133, 133, 10)), (1.2, (83, 83, 6)), (0.25, (400, 400, 32)), (1.0, (101, 100, 8))):
        config.grid.voxel_size_m, config.grid.shape = size, shape
        with pytest.raises(GridMismatchError, match="nor one of its voxels pooled by a whole factor") as caught:
            pooling_factor(SURROUNDOCC_GRID, config.grid.build())
        (problem,) = problems(config)
        assert str(caught.value) in problem
    config.grid.voxel_size_m, config.grid.shape = 1.0, (100, 100, 8)
    assert problems(config) == []


def test_a_label_set_gives_its_labels_on_another_grid():
    labels = LABEL_SETS["surroundocc"]
    semantics = np.full(SURROUNDOCC_GRID.shape, FREE, np.uint8)
    semantics[199, 0, 15] = 4
    pooled, _ = labels.on(COARSE, (semantics, None))
    assert np.argwhere(pooled != FREE).tolist() == [[99, 0, 7]]
    inner = VoxelGrid("lidar", (40.0, -50.0, -5.0), 0.5, (20, 10, 16))
    assert np.argwhere(labels.on(inner, (semantics, None))[0] != FREE).tolist() == [[19, 0, 15]]


def test_top_view_takes_the_highest_voxel_that_is_occupied():
    column = np.array([[[11, 4, 17, 17], [17, 17, 17, 17], [11, 0, 255, 17]]], np.uint8)
    classes, height = highest_occupied(column)
    assert classes.tolist() == [[4, 17, 0]] and height.tolist() == [[1, -1, 1]]
