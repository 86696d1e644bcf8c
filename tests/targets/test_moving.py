"""Teacher targets moved by crops and flips: every row arrives, and what comes in from outside is not valid."""

import numpy as np
import pytest
from teacher_folder import GRID, write_folder

from occjax.grid import VoxelGrid
from occjax.grid_map import GridMap, make_grid_map
from occjax.targets.files import (
    TeacherFileError,
)
from occjax.targets.folder import TeacherFolder
from occjax.targets.moving import dense_log_probs, gather_teacher
from occjax.types import TeacherTargets


def test_bev_only_folder(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path, bev_only=True), GRID).read("a")
    assert targets.voxels is None and targets.bev.free.shape == GRID.shape[:2]
    flipped = gather_teacher(targets, flip_x(GRID), GRID)
    np.testing.assert_array_equal(flipped.bev.free, targets.bev.free[::-1])
    np.testing.assert_array_equal(flipped.bev.levels, targets.bev.levels[::-1])
    assert np.unpackbits(flipped.bev.valid, count=48).all()


def test_a_map_knows_after_the_move_what_it_knew_and_nothing_beyond(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path, bev_only=True), GRID).read("a")
    known = np.random.default_rng(0).random(GRID.shape[:2]) < 0.5
    targets = targets._replace(bev=targets.bev._replace(valid=np.packbits(known)))
    columns = np.arange(48, dtype=np.int32).reshape(8, 6)
    columns[0] = -1
    moved = gather_teacher(targets, GridMap(columns, np.arange(4, dtype=np.int32)), GRID)
    found = np.unpackbits(moved.bev.valid, count=48).reshape(8, 6).astype(bool)
    assert not found[0].any()
    np.testing.assert_array_equal(found[1:], known[1:])


def flip_x(grid):
    return make_grid_map(grid, grid, np.diag([-1.0, 1.0, 1.0]))


def test_flips_and_crops_move_every_row(tmp_path):
    folder = TeacherFolder(write_folder(tmp_path), GRID)
    targets = folder.read("a")
    dense = dense_log_probs(targets, GRID.shape)
    flipped = gather_teacher(targets, flip_x(GRID), GRID)
    np.testing.assert_array_equal(dense_log_probs(flipped, GRID.shape), dense[::-1])
    assert np.unpackbits(flipped.voxels.valid, count=GRID.num_voxels).all()

    inner = VoxelGrid("lidar", (-1.0, -1.0, -0.5), 0.5, (4, 3, 2))
    grid_map = make_grid_map(GRID, inner, np.eye(3))
    cropped = gather_teacher(targets, grid_map, GRID)
    np.testing.assert_array_equal(dense_log_probs(cropped, inner.shape), dense[2:6, 1:4, 1:3])
    assert len(cropped.voxels.index) == min(folder.capacity, inner.num_voxels)


def test_what_moves_in_from_outside_is_not_valid(tmp_path):
    valid = np.random.default_rng(0).random(GRID.shape) < 0.5
    valid[0] = True
    probs_valid = valid  # rows of invalid voxels do not exist in resampled files; here they are merely marked
    targets = TeacherFolder(write_folder(tmp_path, valid=probs_valid), GRID).read("a")
    columns = np.arange(48, dtype=np.int32).reshape(8, 6)
    shifted = np.full_like(columns, -1)
    shifted[1:] = columns[:-1]
    moved = gather_teacher(targets, GridMap(shifted, np.array([-1, 0, 1, 2], np.int32)), GRID)
    known = np.unpackbits(moved.voxels.valid, count=GRID.num_voxels).reshape(GRID.shape).astype(bool)
    assert not known[0].any() and not known[:, :, 0].any()
    np.testing.assert_array_equal(known[1:, :, 1:], valid[:-1, :, :-1])
    dense, found = dense_log_probs(targets, GRID.shape), dense_log_probs(moved, GRID.shape)
    np.testing.assert_array_equal(found[1:, :, 1:], dense[:-1, :, :-1])
    np.testing.assert_array_equal(found[0], np.broadcast_to(targets.voxels.background, found[0].shape))


def test_enlarging_beyond_capacity_is_an_error(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path), GRID).read("a")
    few = targets.voxels._replace(**{name: getattr(targets.voxels, name)[:80] for name in ("index", "free", "levels")})
    targets = TeacherTargets(few, None)
    column, layer = divmod(int(few.index[0]), 4)
    everywhere = GridMap(np.full((8, 6), column, np.int32), np.full(4, layer, np.int32))
    with pytest.raises(TeacherFileError, match="capacity_factor"):
        gather_teacher(targets, everywhere, GRID)
