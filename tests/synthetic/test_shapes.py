"""Solids, rays and voxels by hand."""

import numpy as np
import pytest

from occjax.grid import VoxelGrid
from occjax.synthetic import objects, scenery
from occjax.synthetic.city import assemble_parts
from occjax.synthetic.ground import KERB_M, PAVEMENT, ROAD, Ground
from occjax.synthetic.lidar import ELEVATION_RAD, RINGS, lidar_rays, sweep
from occjax.synthetic.objects import Thing, ball, box
from occjax.synthetic.raycast import GROUND, KERB, SKY, cast_ground
from occjax.synthetic.render import see
from occjax.synthetic.rig import FORWARD_FROM_OPTICAL
from occjax.synthetic.shapes import corners_m, face_planes
from occjax.synthetic.voxelize import voxelize


class Stage:
    """A city of given things on a flat carriageway; `ground_class` elsewhere than x < 20."""

    def __init__(self, *things, beyond_20_m=ROAD):
        self.things = list(things)
        self.parts, self.part_velocity_mps = assemble_parts(self.things)
        semantic = np.full((1000, 1000), ROAD, np.uint8)
        semantic[:, 700:] = beyond_20_m
        self.ground = Ground(np.array([-50.0, -50.0]), semantic, np.zeros((1000, 1000, 3), np.uint8))


def camera_along_x(height_m: float) -> tuple[np.ndarray, np.ndarray]:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = FORWARD_FROM_OPTICAL, (0, 0, height_m)
    return pose, np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]])


def test_box_is_hit_at_its_face_and_only_there():
    stage = Stage(Thing("car", [box(0, 0, 0, 2, 1, 1, "plain", (1, 0, 0))], x=11.0))
    pose, lens = camera_along_x(1.0)
    hits, _ = see(stage.parts, stage.ground, pose, lens, 100, 100)
    # Front face at x = 10: columns 50 ± 5, rows 50 ± 5.
    assert hits.distance[50, 50] == pytest.approx(10.0, abs=1e-4)
    rows, columns = np.nonzero(hits.part == 0)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (45, 54, 45, 54)
    assert set(np.unique(hits.face[hits.part == 0])) == {1}  # looks at its back, -x
    assert hits.part[10, 50] == SKY and hits.part[80, 50] == GROUND
    # The ground below: 1 m down at a slope of 30.5 / 50.
    assert hits.distance[80, 50] == pytest.approx(50 / 30.5, rel=1e-5)


def test_left_in_the_world_is_left_in_the_image():
    stage = Stage(Thing("car", [box(0, 0, 0, 2, 1, 1, "plain", (1, 0, 0))], x=11.0, y=4.0))
    pose, lens = camera_along_x(1.0)
    hits, _ = see(stage.parts, stage.ground, pose, lens, 100, 100)
    assert np.nonzero(hits.part == 0)[1].max() < 45


def test_turned_box_and_ellipsoid_by_hand():
    pose, lens = camera_along_x(1.0)
    turned = Stage(Thing("car", [box(0, 0, 0, 2, 1, 1, "plain", (1, 0, 0))], x=10.0, yaw=np.pi / 4))
    hits, _ = see(turned.parts, turned.ground, pose, lens, 101, 101)
    # The pixel right of the axis meets the edge at 10 - sqrt(2), but for its half pixel.
    assert hits.distance[50, 50] == pytest.approx(10 - np.sqrt(2), abs=0.1)
    egg = Stage(Thing("vegetation", [ball(0, 0, 1, 3, 1, 1, "foliage", (0, 1, 0))], x=10.0))
    hits, _ = see(egg.parts, egg.ground, pose, np.array([[1e4, 0, 50.5], [0, 1e4, 50.5], [0, 0, 1]]), 101, 101)
    assert hits.distance[50, 50] == pytest.approx(7.0, abs=1e-3)


def test_nearer_part_hides_farther_whatever_their_order():
    near = Thing("car", [box(0, 0, 0, 2, 1, 1, "plain", (1, 0, 0))], x=8.0)
    far = Thing("bus", [box(0, 0, 0, 4, 1, 4, "plain", (1, 0, 0))], x=20.0)
    pose, lens = camera_along_x(1.0)
    for things in ((near, far), (far, near)):
        stage = Stage(*things)
        hits, _ = see(stage.parts, stage.ground, pose, lens, 100, 100)
        assert stage.things[stage.parts.owner[hits.part[50, 50]]] is near
        assert stage.things[stage.parts.owner[hits.part[50, 41]]] is far


def test_kerb_stands_where_the_carriageway_ends():
    stage = Stage(Thing("car", [box(0, 0, 0, 1, 1, 1, "plain", (1, 0, 0))], x=-30.0), beyond_20_m=PAVEMENT)
    slope = np.array([1.5 / 10, 1.5 / 19, (1.5 - KERB_M / 2) / 20, (1.5 - KERB_M) / 25], np.float32)
    rays = np.stack([np.ones_like(slope), np.zeros_like(slope), -slope])[:, None]
    hits = cast_ground(stage.ground, np.array([0, 0, 1.5]), rays)
    assert hits.part[0].tolist() == [GROUND, GROUND, KERB, GROUND]
    np.testing.assert_allclose(hits.distance[0], [10, 19, 20, 25], atol=0.05)


def test_tapered_planes_hold_the_corners():
    parts, _ = assemble_parts(
        [objects.car(np.random.default_rng(0)), scenery.house(np.random.default_rng(1), 4.0, 5.0)]
    )
    normals, offsets = face_planes(parts)
    local = corners_m(parts) - parts.center_m[:, None]
    reach = np.einsum("pfa,pca->pfc", normals, local).max(axis=-1)
    np.testing.assert_allclose(reach, offsets, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)


def test_lidar_rings_and_directions():
    rays = lidar_rays()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(np.arcsin(rays[2, :, 0]), ELEVATION_RAD, atol=1e-6)
    assert rays[1, 20, 0] > 0.9 and rays[0, 20, 0] > 0  # starts ahead (y) and goes clockwise (to x)
    # A wall around the seam of the turn is seen on both sides of it.
    stage = Stage(Thing("manmade", [box(0, 0, 0, 5, 0.5, 5, "plain", (1, 1, 1))], x=10.5))
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], 1.8
    turn = sweep(np.random.default_rng(0), stage.ground, stage.parts, pose)
    wall = turn.points[turn.part == 0]
    assert (wall[:, 0] < -3).any() and (wall[:, 0] > 3).any()
    np.testing.assert_allclose(wall[np.abs(wall[:, 2]) < 1, 1], 10, atol=0.06)
    assert set(np.unique(turn.points[:, 4])) <= set(range(RINGS))


GRID = VoxelGrid("ego", (0.0, 0.0, -1.0), 0.5, (20, 12, 8))


def test_voxels_of_an_aligned_box_are_exactly_its_own():
    stage = Stage(Thing("car", [box(0, 0, 1.0, 2.5, 1.0, 0.5, "plain", (1, 0, 0))], x=4.0, y=2.5))
    labels = voxelize(stage.parts, stage.ground, GRID, np.eye(4))
    expected = np.full(GRID.shape, 17, np.uint8)
    expected[:, :, 2] = ROAD  # z = 0 opens layer 2
    expected[6:10, 4:6, 4:7] = 4
    np.testing.assert_array_equal(labels, expected)


def test_voxels_follow_the_grid_frame():
    """The same box, seen from a grid that is turned by 90 degrees and shifted: x and y must not be swapped."""
    stage = Stage(Thing("car", [box(0, 0, 1.0, 2.5, 1.0, 0.5, "plain", (1, 0, 0))], x=4.0, y=2.5))
    city_from_grid = np.array([[0.0, -1, 0, 8], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    labels = voxelize(stage.parts, stage.ground, GRID, city_from_grid)
    # grid x = city y - 1 in [1, 2], grid y = 8 - city x in [3, 5].
    assert sorted({tuple(v) for v in np.argwhere(labels == 4)[:, :2]}) == [(x, y) for x in (2, 3) for y in range(6, 10)]


def test_thin_things_do_not_fall_between_probes():
    stage = Stage(Thing("manmade", [box(0, 0, 0.5, 2.5, 0.01, 0.01, "plain", (1, 0, 0))], x=4.01, y=2.01))
    labels = voxelize(stage.parts, stage.ground, GRID, np.eye(4))
    assert (labels == 15).sum() >= 4 and set(np.argwhere(labels == 15)[:, 0]) == {8}


def test_ground_layer_follows_kerb_and_tilt():
    stage = Stage(Thing("car", [box(0, 0, 8, 9, 1, 1, "plain", (1, 0, 0))]), beyond_20_m=PAVEMENT)
    city_from_grid = np.eye(4)
    city_from_grid[:3, 3] = (15, 0, 0.05)
    labels = voxelize(stage.parts, stage.ground, GRID, city_from_grid)
    assert (labels[:10, :, 1] == ROAD).all() and (labels[10:, :, 2] == PAVEMENT).all()
    assert ((labels != 17).sum(axis=2) == 1).all()
    stage = Stage(*stage.things)
    tilt = 0.1
    city_from_grid[:3, :3] = [[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]]
    labels = voxelize(stage.parts, stage.ground, GRID, city_from_grid)
    layer = np.argmax(labels != 17, axis=2)
    assert (np.diff(layer[:, 0]) <= 0).all() and layer[0, 0] > layer[-1, 0]  # the grid climbs, the ground sinks in it
