"""BEV maps as the dump script draws them, and moving a sparse teacher between grids."""

import cv2
import numpy as np
import pytest

from occjax.classes import CLASS_COLORS, FREE, NUM_CLASSES
from occjax.convert.dump.bev_maps import bev_semantics, colored, turn, turn_back, write_npy, write_png
from occjax.convert.dump.resample import resample_sparse
from occjax.geometry import transform_from_pose
from occjax.grid import VoxelGrid
from occjax.targets.files import sparse_from_probabilities


def column(*classes):
    return np.array(classes, np.uint8)[None, None]


def test_overwrite_takes_the_last_voxel_of_the_scan():
    labels = column(11, FREE, 4, 16, FREE)
    assert bev_semantics(labels)[0, 0] == 16
    assert bev_semantics(labels, scan_direction="high2low")[0, 0] == 11
    assert bev_semantics(column(FREE, FREE))[0, 0] == FREE
    assert bev_semantics(column(0, 255))[0, 0] == 0  # 255 is unknown, others is a class


def test_priority_prefers_the_first_id_of_the_list():
    labels = column(11, 7, 4, 16)
    assert bev_semantics(labels, mode="priority")[0, 0] == 4
    assert bev_semantics(labels, mode="priority", priority_ids=(7, 4))[0, 0] == 7
    assert bev_semantics(column(11, 16), mode="priority")[0, 0] == 16


@pytest.mark.parametrize("rotate_k", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_turning_back_undoes_turning(rotate_k, flips):
    bev = np.arange(12).reshape(4, 3)
    options = {"rotate_k": rotate_k, "flip_x": flips[0], "flip_y": flips[1]}
    np.testing.assert_array_equal(turn_back(turn(bev, **options), **options), bev)
    assert turn(bev, rotate_k=0, flip_x=True)[0, 0] == bev[-1, 0]


def test_pictures_use_the_usual_colours_at_the_scale(tmp_path):
    bev = np.array([[0, 4], [FREE, 16]], np.uint8)
    rgb = colored(bev, 4)
    assert rgb.shape == (8, 8, 3)
    np.testing.assert_array_equal(rgb[0, 4], CLASS_COLORS[4])
    write_png(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], rgb)
    write_npy(tmp_path / "a.npy", bev)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), bev)
    assert len(list(tmp_path.iterdir())) == 2


def resample_probabilities(
    values: np.ndarray, src: VoxelGrid, dst: VoxelGrid, src_from_dst: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of `src` interpolated trilinearly at the voxel centres of `dst`.

    Args:
      values: float [X, Y, Z, K] probabilities on `src`.
      src: grid that `values` lie on.
      dst: grid to sample at.
      src_from_dst: [4, 4] transform of points, dst frame to src frame, metres.

    Returns:
      float32 [X', Y', Z', K] (zero outside) and bool [X', Y', Z'], true where the centre lies inside `src`.
      Within half a voxel of the border of `src` the nearest voxels are repeated.
    """
    points = dst.centers_m().astype(np.float64) @ src_from_dst[:3, :3].T + src_from_dst[:3, 3]
    position = (points - src.lower_m) / src.voxel_size_m
    inside = np.all((position >= 0) & (position < src.shape), axis=-1)
    position = np.clip(position[inside] - 0.5, 0, np.array(src.shape) - 1.0)
    low = np.minimum(position.astype(np.int64), np.maximum(np.array(src.shape) - 2, 0))
    weight = (position - low).astype(np.float32)
    high = np.minimum(low + 1, np.array(src.shape) - 1)
    mixed = np.zeros((len(low), values.shape[-1]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        index = np.where(corner, high, low)
        corner_weight = np.prod(np.where(corner, weight, 1 - weight), axis=-1)
        mixed += corner_weight[:, None] * values[index[:, 0], index[:, 1], index[:, 2]].astype(np.float32)
    out = np.zeros((*dst.shape, values.shape[-1]), np.float32)
    out[inside] = mixed
    return out, inside


def test_sparse_resampling_equals_the_dense_one():
    src = VoxelGrid("lidar", (-3.0, -3.0, -1.0), 0.5, (12, 12, 6))
    dst = VoxelGrid("ego", (-2.4, -2.4, -1.2), 0.4, (12, 12, 7))
    r = np.random.default_rng(0)
    probs = np.zeros((*src.shape, NUM_CLASSES), np.float32)
    probs[..., FREE] = 1
    index = r.random(src.shape) < 0.1
    probs[index] = r.dirichlet(np.full(NUM_CLASSES, 0.5), index.sum())
    src_from_dst = transform_from_pose([np.cos(0.4), 0, 0, np.sin(0.4)], [0.9, 0.1, -0.3])
    moved, valid = resample_sparse(sparse_from_probabilities(probs), src, dst, src_from_dst)
    wanted, inside = resample_probabilities(probs, src, dst, src_from_dst)
    np.testing.assert_array_equal(valid, inside)
    assert 0 < inside.mean() < 1
    dense = np.tile(moved.background, (dst.num_voxels, 1))
    dense[moved.index] = moved.rows
    np.testing.assert_allclose(dense.reshape(*dst.shape, -1)[inside], wanted[inside], atol=2e-2)
    # Only what is nearly free may be folded away.
    exact = np.isin(np.arange(dst.num_voxels), moved.index)
    np.testing.assert_allclose(dense[exact], wanted.reshape(-1, NUM_CLASSES)[exact], atol=1e-4)
    assert np.isin(moved.index, np.flatnonzero(inside)).all()
