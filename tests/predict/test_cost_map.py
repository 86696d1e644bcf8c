"""A cost map by hand: obstacles, what is around them, the ground, and what nobody sees."""

import dataclasses

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.predict import cost_map as cost_maps
from occjax.predict.cost_map import Robot, _distance_in_cells, _project, cost_map, seen_columns
from occjax.predict.lens import Lens
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import Rig

GRID = VoxelGrid("ego", (-4.0, -4.0, -1.0), 0.5, (16, 16, 4))  # z centres -0.75, -0.25, 0.25, 0.75
CAR, ROAD = 4, 11
BAND = (-0.5, 0.5)
# A camera at the origin that looks along x, 90° wide.
POSE = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
K = np.array([[100.0, 0, 100], [0, 100, 100], [0, 0, 1]])
RIG = Rig.from_arrays(K[None], grid_from_cam=POSE[None], sizes=[[200, 200]], frame="ego")


def occupancy_of(*voxels, grid=GRID):
    """Free but for (x, y, z, class, probability)."""
    probabilities = np.full((*grid.shape, 18), 1e-9, np.float32)
    probabilities[..., FREE] = 1
    for x, y, z, kind, probability in voxels:
        probabilities[x, y, z, [kind, FREE]] = probability, 1 - probability
    logits = np.log(np.maximum(probabilities, 1e-9))
    return Occupancy(logits, logits.argmax(-1).astype(np.uint8), 1.0, grid)


def test_obstacles_ground_and_what_nobody_sees():
    above, unlikely = (12, 6, 3, CAR, 0.9), (14, 9, 2, CAR, 0.3)
    occupancy = occupancy_of((12, 8, 1, CAR, 0.9), (11, 8, 1, ROAD, 0.9), above, unlikely, (2, 8, 1, CAR, 1))
    found = cost_map(occupancy, RIG, Robot(BAND))
    values = found.values
    assert values.dtype == np.int8 and values[12, 8] == 100
    # The road is no obstacle, nor is what hangs above the robot; what is unlikely costs its probability.
    assert values[11, 8] == 0 and values[12, 6] == 0 and values[14, 9] == 30
    # Behind the camera nothing is known, but for an obstacle that the network is sure of.
    assert values[2, 5] == -1 and values[2, 8] == 100
    # 90° wide: the cell centre (2.25, 2.25) m is the first on the diagonal, (2.25, 2.75) lies outside.
    assert values[12, 12] == 0 and values[12, 13] == -1
    assert found.resolution_m == 0.5 and found.origin_m == (-4.0, -4.0)
    # Row by row along x.
    assert found.message_data()[8 * 16 + 12] == 100 and found.message_data().size == 256


def test_costs_fall_around_an_obstacle():
    values = cost_map(
        occupancy_of((12, 8, 1, CAR, 0.9)),
        RIG,
        Robot(BAND, radius_m=0.5, inflation_radius_m=1.2, cost_scaling=2.0),
    ).values
    along = values[12:16, 8].tolist()  # centres 0.25, 0.75 and 1.25 m from the edge of its cell
    assert along == [100, 99, int(99 * np.exp(-2.0 * 0.25)), 0]
    assert values[13, 9] == 99 and values[14, 10] == int(99 * np.exp(-2.0 * (0.75 * 2**0.5 - 0.5)))


def test_a_robot_as_large_as_a_cell_cannot_pass_beside_an_obstacle():
    """Centre to centre it is 0.5 m, but the obstacle may stand at the edge, 0.25 m away."""
    values = cost_map(occupancy_of((12, 8, 1, CAR, 0.9)), RIG, Robot(BAND, radius_m=0.4)).values
    assert values[11:14, 7:10].tolist() == [[99, 99, 99], [99, 100, 99], [99, 99, 99]]
    assert (values == 99).sum() == 8
    assert (cost_map(occupancy_of((12, 8, 1, CAR, 0.9)), RIG, Robot(BAND)).values == 99).sum() == 0


def test_distances_are_to_the_nearest_point_of_a_cell():
    rng = np.random.default_rng(0)
    is_obstacle = rng.random((13, 9)) < 0.05
    index = np.stack(np.meshgrid(np.arange(13), np.arange(9), indexing="ij"), axis=-1)
    apart = np.abs(index[:, :, None] - index[is_obstacle])  # [13, 9, obstacles, 2]
    wanted = np.hypot(*np.moveaxis(np.maximum(apart - 0.5, 0), -1, 0)).min(-1)
    np.testing.assert_allclose(_distance_in_cells(is_obstacle), wanted, atol=1e-5)


def test_seen_columns_by_hand():
    seen = seen_columns(RIG, GRID, np.array([False, True, True, False]))
    for x, y in np.ndindex(16, 16):
        center = (-4 + 0.5 * (x + 0.5), -4 + 0.5 * (y + 0.5))
        # On the left edge a point lies at pixel 0, on the right one at 200, which is the next image's.
        assert seen[x, y] == (-center[0] < center[1] <= center[0]), center


def test_what_cannot_be_is_told():
    occupancy = occupancy_of()
    for rig, robot, threshold, says in (
        (RIG, Robot((3.0, 4.0)), 0.5, "no voxel has its centre between 3.0 and 4.0 m: the grid reaches from -1 to 1"),
        (RIG, Robot(BAND), 0.0, "a probability above 0"),
        (RIG, Robot(BAND, radius_m=-1.0), 0.5, "radii and scaling of a robot are 0 or more"),
        (RIG, Robot(BAND, inflation_radius_m=float("nan")), 0.5, "radii and scaling of a robot are 0 or more"),
        (RIG, Robot(BAND, cost_scaling=float("inf")), 0.5, "0 or more and finite, not 0.0, 0.0, inf"),
        (Rig.from_arrays(K[None], grid_from_cam=POSE[None], frame="ego"), Robot(BAND), 0.5, "give the rig its `sizes`"),
    ):
        with pytest.raises(UserError, match=says):
            cost_map(occupancy, rig, robot, threshold=threshold)


def test_what_a_robot_would_touch_is_known_to_be_bad_where_nobody_looks():
    # Behind the camera: an obstacle, what touches it, and what is merely near it.
    robot = Robot(BAND, radius_m=0.5, inflation_radius_m=1.2)
    values = cost_map(occupancy_of((2, 8, 1, CAR, 0.9)), RIG, robot).values
    assert values[2:6, 8].tolist() == [100, 99, -1, -1]


def test_what_a_camera_without_an_image_would_see_is_unknown():
    behind = np.diag([-1.0, -1, 1, 1]) @ POSE
    rig = Rig.from_arrays(np.stack([K, K]), grid_from_cam=np.stack([POSE, behind]), sizes=[[200, 200]] * 2, frame="ego")
    occupancy = occupancy_of()
    with pytest.raises(UserError, match="the rig has no camera CAM_FORNT; it has camera_0, camera_1"):
        cost_map(occupancy, rig, Robot(BAND), cameras="CAM_FORNT")
    both, front = cost_map(occupancy, rig, Robot(BAND)), cost_map(occupancy, rig, Robot(BAND), cameras=["camera_0"])
    assert both.values[12, 8] == both.values[3, 8] == front.values[12, 8] == 0 and front.values[3, 8] == -1


def test_what_a_lens_did_not_see_is_unknown():
    """A pinhole of 127° of what a lens saw 90° of: the edges of its image are black."""
    wide = np.array([[50.0, 0, 100], [0, 50, 100], [0, 0, 1]])
    pinhole = dataclasses.replace(RIG, pixel_from_cam=wide[None])
    rig = dataclasses.replace(pinhole, lenses=(Lens(False, K, np.array([1e-9, 0, 0, 0]), wide, (200, 200)),))
    band = np.array([False, True, True, False])
    np.testing.assert_array_equal(seen_columns(rig, GRID, band), seen_columns(RIG, GRID, band))
    assert seen_columns(rig, GRID, band).sum() < seen_columns(pinhole, GRID, band).sum()


def test_what_cameras_look_at_is_computed_once_for_a_rig(monkeypatch):
    rig, calls = dataclasses.replace(RIG), []
    monkeypatch.setattr(cost_maps, "_project", lambda *arrays: calls.append(1) or _project(*arrays))
    band = np.array([False, True, True, False])
    for _ in range(3):
        np.testing.assert_array_equal(seen_columns(rig, GRID, band), seen_columns(RIG, GRID, band))
    assert len(calls) <= 2 and seen_columns(rig, GRID, ~band).any() and len(calls) <= 3
