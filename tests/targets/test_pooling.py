"""The teacher on a coarser grid: against the rule applied to dense numbers, voxel by voxel."""

import numpy as np
from teacher_folder import GRID, write_folder

from occjax.grid import VoxelGrid
from occjax.grid_map import make_grid_map
from occjax.pooling import refined
from occjax.targets.folder import TeacherFolder
from occjax.targets.moving import dense_log_probs
from occjax.targets.pooling import pool_teacher


def pooled_by_hand(dense, shape):
    """p_free is the product, the rest is shared by mass, in float64."""
    p = np.exp(dense.astype(np.float64))
    found = np.empty((*shape, p.shape[-1]))
    for x, y, z in np.ndindex(shape):
        inside = p[2 * x : 2 * x + 2, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].reshape(8, -1)
        free, mass = inside[:, -1].prod(), inside[:, :-1].sum(0)
        found[x, y, z] = [*(mass / mass.sum() * (1 - free)), free]
    return found


def test_blocks_of_voxels_follow_the_column_rule(tmp_path):
    coarse = VoxelGrid(GRID.frame, GRID.lower_m, 2 * GRID.voxel_size_m, tuple(n // 2 for n in GRID.shape))
    folder = TeacherFolder(write_folder(tmp_path), coarse)
    targets = folder.read("a")
    dense = dense_log_probs(targets, GRID.shape)
    pooled = folder.gather(targets, make_grid_map(GRID, refined(coarse, 2), np.eye(3)))
    found = np.exp(dense_log_probs(pooled, coarse.shape))
    expected = pooled_by_hand(dense, coarse.shape)
    # Codes have steps: of the free probability's logit 0.11, of a share a tenth or so.
    np.testing.assert_allclose(found[..., -1], expected[..., -1], atol=0.02)
    assert np.abs(found - expected).max() < 0.04 and np.mean(np.abs(found - expected)) < 5e-3
    assert len(pooled.voxels.index) == min(folder.capacity, coarse.num_voxels)
    assert np.unpackbits(pooled.voxels.valid, count=coarse.num_voxels).all()


def test_a_block_is_valid_if_all_of_it_is(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path), GRID).read("a")
    known = np.random.default_rng(0).random(GRID.shape) < 0.9
    targets = targets._replace(voxels=targets.voxels._replace(valid=np.packbits(known)))
    shape = tuple(n // 2 for n in GRID.shape)
    found = np.unpackbits(pool_teacher(targets, shape, 2).voxels.valid, count=int(np.prod(shape))).reshape(shape)
    for x, y, z in np.ndindex(shape):
        assert found[x, y, z] == known[2 * x : 2 * x + 2, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].all()


def test_maps_are_pooled_too(tmp_path):
    coarse = VoxelGrid(GRID.frame, GRID.lower_m, 2 * GRID.voxel_size_m, tuple(n // 2 for n in GRID.shape))
    folder = TeacherFolder(write_folder(tmp_path, bev_only=True), coarse)
    targets = folder.read("a")
    pooled = folder.gather(targets, make_grid_map(GRID, refined(coarse, 2), np.eye(3)))
    assert pooled.voxels is None and pooled.bev.free.shape == coarse.shape[:2]
    assert (pooled.bev.free <= targets.bev.free.reshape(coarse.shape[0], 2, coarse.shape[1], 2).min((1, 3))).all()
