"""Depth maps: a point by hand, the nearest of a block, and the image augmentation."""

import numpy as np
import pytest

from occjax.config import AugmentConfig
from occjax.data.augment import sample_image_augmentation
from occjax.data.lidar import depth_map, points_from_bytes
from occjax.errors import DataError

# LIDAR_TOP (x right, y ahead, z up) to a camera (x right, y down, z ahead) at the same place.
CAM_FROM_LIDAR = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
PIXEL_FROM_CAM = np.array([[100, 0, 64], [0, 100, 32], [0, 0, 1]], np.float32)


def depths(points, *, input_from_pixel=None, present=True, max_m=45.0):
    matrix = np.eye(3, dtype=np.float32) if input_from_pixel is None else input_from_pixel.astype(np.float32)
    return depth_map(
        np.array(points, np.float32),
        CAM_FROM_LIDAR[None],
        PIXEL_FROM_CAM[None],
        matrix[None],
        np.array([present]),
        height=64,
        width=128,
        max_m=max_m,
    )[0]


def test_one_point_by_hand():
    # u = 64 + 100·2/10 = 84, v = 32 − 100·1/10 = 22: column 84 // 16 = 5, row 22 // 16 = 1.
    found = depths([[2, 10, 1]])
    assert found.shape == (4, 8) and found.dtype == np.float32
    assert found[1, 5] == 10 and np.count_nonzero(found) == 1


def test_nearest_point_of_a_block_wins():
    assert depths([[2, 10, 1], [1, 5, 0.5], [4, 20, 2]])[1, 5] == 5
    assert depths([[1, 5, 0.5], [4, 20, 2]])[1, 5] == 5


@pytest.mark.parametrize(
    "point", [[0, 0.99, 0], [0, 45, 0], [0, -10, 0], [7, 10, 0], [-7, 10, 0], [0, 10, 4], [0, 10, -4], [0, 0, 0]]
)
def test_points_outside_image_or_range_do_not_count(point):
    assert not depths([point]).any()


def test_range_is_closed_below_and_open_above():
    assert depths([[0, 1, 0]]).max() == 1
    assert depths([[0, 44.99, 0]]).max() == np.float32(44.99)
    assert depths([[0, 45, 0]], max_m=60.0).max() == 45


def test_absent_camera_has_no_depth():
    assert not depths([[2, 10, 1]], present=False).any()


def test_depth_follows_the_image_augmentation():
    mirror = np.array([[-1.0, 0, 128], [0, 1, 0], [0, 0, 1]])
    rng = np.random.default_rng(0)
    cloud = rng.uniform([-20, 1, -5], [20, 45, 5], (4000, 3))
    np.testing.assert_array_equal(depths(cloud, input_from_pixel=mirror), depths(cloud)[:, ::-1])
    config = AugmentConfig(image_scale=(0.8, 1.2), image_rotate_deg=15.0, image_flip=True)
    for _ in range(4):
        matrix = sample_image_augmentation(rng, config, width=128, height=64)
        found = depths(cloud, input_from_pixel=matrix)
        expected = np.zeros((4, 8), np.float32)
        for x, y, z in sorted(cloud.tolist(), key=lambda point: -point[1]):
            u, v, _ = matrix @ [64 + 100 * x / y, 32 - 100 * z / y, 1]
            if 0 <= u < 128 and 0 <= v < 64:
                expected[int(v) // 16, int(u) // 16] = y
        # A point within rounding of a block's border may fall into the neighbour.
        assert np.mean(np.isclose(found, expected)) > 0.95


def test_sweeps_that_are_no_points_are_refused(tmp_path):
    path = tmp_path / "sweep.pcd.bin"
    np.arange(10, dtype=np.float32).tofile(path)
    np.testing.assert_array_equal(points_from_bytes(path.read_bytes()), [[0, 1, 2], [5, 6, 7]])
    path.write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        points_from_bytes(path.read_bytes())
    np.arange(9, dtype=np.float32).tofile(path)
    with pytest.raises(DataError, match="36 bytes"):
        points_from_bytes(path.read_bytes())
    path.write_bytes(b"x" * 42)
    with pytest.raises(DataError, match="42 bytes"):
        points_from_bytes(path.read_bytes())


def test_sweeps_of_another_layout_are_refused():
    """Whatever the size divides by: the share of whole rings tells 5 columns from 4, 6 and float64."""
    rng = np.random.default_rng(0)
    count = 3000  # divides by 5 as four and six columns do
    points = np.c_[rng.uniform(-50, 50, (count, 3)), rng.uniform(0, 255, count), rng.integers(0, 32, count)]
    sweep = points.astype(np.float32)
    np.testing.assert_array_equal(points_from_bytes(sweep.tobytes()), sweep[:, :3])
    others = (sweep[:, :4], np.c_[sweep, sweep[:, :1]], points, points[:, :4], points.astype(np.float16))
    for other in others:
        with pytest.raises(DataError, match=r"ring is a whole number from 0 to 255 in \d+ % of the rows only"):
            points_from_bytes(np.ascontiguousarray(other).tobytes())
    for value in (np.nan, np.inf, -np.inf, 1001.0):
        damaged = sweep.copy()
        damaged[7, 1] = value
        with pytest.raises(DataError, match="within 1000 m, but 1 of 3000 points"):
            points_from_bytes(damaged.tobytes())
    # One ring in a thousand may be off, one in ten may not.
    sweep[::1000, 4] = 0.5
    points_from_bytes(sweep.tobytes())
    sweep[::10, 4] = np.nan
    with pytest.raises(DataError, match="in 90 %"):
        points_from_bytes(sweep.tobytes())


def test_real_sweep_hits_most_lower_blocks(shared_dir, tmp_path):
    from occjax.config import DataConfig
    from occjax.data.augment import plain_resize
    from occjax.data.index import load_index

    data = DataConfig(root=str(shared_dir / "data/nuscenes_real"), index_dir=str(tmp_path))
    split = load_index(data).split("train")
    found = depth_map(
        points_from_bytes((split.root / split.lidar_file[0].decode()).read_bytes()),
        split.cam_from_lidar[0],
        split.pixel_from_cam[0],
        np.tile(plain_resize((1600, 900), (640, 480)), (6, 1, 1)),
        np.ones(6, bool),
        height=480,
        width=640,
        max_m=45.0,
    )
    # The ground is below the horizon and nearer towards the lower border.
    lower = found[:, 18:26]
    assert np.mean(lower > 0) > 0.6
    assert np.median(found[:, 25][found[:, 25] > 0]) < np.median(found[:, 19][found[:, 19] > 0])
