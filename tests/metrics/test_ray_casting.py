"""Rays against the goldens and against the published rules written out one ray at a time."""

import json
import math

import numpy as np
import pytest
from ray_scenes import free, golden_scene, street

from occjax.classes import FREE
from occjax.grid import OCC3D_GRID, VoxelGrid
from occjax.metrics.ray_casting import cast_rays, ray_directions, ray_pitches_rad

CASES = (
    "all_free",
    "ground_z0",
    "wall_ix130",
    "origin_voxel_occupied",
    "random_seed0",
    "random_seed0_corner",
    "random_seed0_on_boundary",
    "random_seed0_origin_above",
    "random_seed0_origin_below",
)
# Metres; what makes each of them special is said beside it.
ORIGINS = {
    "on borders of voxels along x, y and z": (0.0, -0.8, 1.4),
    "on the lower corner of the grid": (-40.0, -40.0, -1.0),
    "on the upper corner, which is outside": (40.0, 40.0, 5.4),
    "less than a voxel below, which truncation takes for inside": (3.3, -2.1, -1.25),
    "less than a voxel outside along x and y": (-40.3, -40.1, 0.3),
    "far outside along x": (-52.1, 7.7, 2.0),
    "far outside along x and y, above": (44.0, -61.5, 9.1),
    "in the middle": (12.34, -5.67, 1.9),
}
AZIMUTHS = (0, 1, 37, 45, 89, 90, 135, 180, 203, 270, 271, 315)


def ray_by_ray(volume, origin_m, direction, lower_m, size_m):
    """Class and distance in metres of one ray: the rules of the published kernel, scalar by scalar, in double."""
    start = [float(np.float32((o - low) / size_m)) for o, low in zip(origin_m, lower_m, strict=True)]
    end = [
        float(np.float32((o + float(d) - low) / size_m)) for o, d, low in zip(origin_m, direction, lower_m, strict=True)
    ]
    difference = [e - s for s, e in zip(start, end, strict=True)]
    length = math.sqrt(sum(v * v for v in difference))
    ray = [v / length for v in difference]
    voxel = [math.trunc(s) for s in start]
    step = [1 if d >= 0 else -1 for d in ray]
    t_max = [(v + (s > 0) - o) / d if d != 0 else math.inf for v, s, o, d in zip(voxel, step, start, ray, strict=True)]
    t_delta = [s / d if d != 0 else math.inf for s, d in zip(step, ray, strict=True)]
    path = []
    for _ in range(1000):
        inside = all(0 <= v < n for v, n in zip(voxel, volume.shape, strict=True))
        if path and not inside:
            break
        tx, ty, tz = t_max
        axis = (0 if tx < tz else 2) if tx < ty else (1 if ty < tz else 2)
        if inside:
            path.append((tuple(voxel), t_max[axis]))
        voxel[axis] += step[axis]
        t_max[axis] += t_delta[axis]
    label, t = (FREE, path[-1][1]) if path else (volume[0, 0, 0], -1.0)
    for place, leaves_at in path:
        if volume[place] != FREE:
            label, t = volume[place], leaves_at
            break
    return label, np.float32(t) * np.float32(size_m)


@pytest.fixture(scope="module")
def goldens(shared_dir):
    return json.loads((shared_dir / "goldens/rayiou.json").read_text())


def test_rays_are_the_published_ones(goldens):
    np.testing.assert_allclose(np.rad2deg(ray_pitches_rad()), goldens["pitch_deg"], atol=2e-6)
    assert ray_directions().shape == (goldens["n_rays"], 3) and ray_directions().dtype == np.float32


def test_every_golden_scene_is_tested(goldens):
    assert set(goldens["cases"]) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_golden_scenes(goldens, name):
    golden = goldens["cases"][name]
    origin = np.array([golden["origin"]])
    labels, depth_m = cast_rays([golden_scene(name, origin[0])], origin, OCC3D_GRID)
    labels, depth_m = labels[0, 0], depth_m[0, 0]
    assert np.sum(labels != FREE) == golden["hits"]
    assert np.bincount(labels, minlength=18).tolist() == golden["label_hist"]
    assert np.sum(depth_m < 0) == golden["neg_depth"]
    assert depth_m.sum(dtype=np.float64) == pytest.approx(golden["sum_depth"], abs=1e-5)
    # Rays straight ahead at five pitches.
    ahead = 360 * np.array([0, 9, 18, 25, 38])
    depths, classes = zip(*golden["ray_az0_by_pitch"], strict=True)
    np.testing.assert_allclose(depth_m[ahead], depths, atol=1e-5)
    assert labels[ahead].tolist() == list(classes)


@pytest.mark.parametrize("corner", [FREE, 3], ids=["corner free", "corner occupied"])
def test_casting_equals_the_rules_written_out_ray_by_ray(corner):
    rng = np.random.default_rng(7)
    volume = np.where(rng.random(OCC3D_GRID.shape) < 0.01, rng.integers(0, 17, OCC3D_GRID.shape), FREE)
    volume = volume.astype(np.uint8)
    volume[0, 0, 0] = corner
    middle = OCC3D_GRID.indices_from_points(np.array([ORIGINS["in the middle"]]))[0][0]
    volume[tuple(middle)] = 9
    origins = np.array(list(ORIGINS.values()))
    found, depth_m = cast_rays([volume], origins, OCC3D_GRID)
    chosen = (360 * np.arange(39)[:, None] + np.array(AZIMUTHS)).ravel()
    directions = ray_directions()
    assert np.any(directions[chosen] == 0)
    never = 0
    for o, origin in enumerate(ORIGINS.values()):
        expected = [
            ray_by_ray(volume, origin, directions[r], OCC3D_GRID.lower_m, OCC3D_GRID.voxel_size_m) for r in chosen
        ]
        labels, depths = zip(*expected, strict=True)
        assert found[0, o, chosen].tolist() == list(labels), list(ORIGINS)[o]
        np.testing.assert_array_equal(depth_m[0, o, chosen], depths, err_msg=list(ORIGINS)[o])
        never += np.sum(np.array(depths) == np.float32(-0.4))
    assert never > 100 and np.all(found[0, -1] == 9)


def test_volumes_share_one_traversal():
    one, two = street(), golden_scene("random")
    origins = np.array([[0.985793, 0.0, 1.84019], [-20.0, 5.0, 1.9]])
    labels, depth_m = cast_rays([one, two], origins, OCC3D_GRID)
    for v, volume in enumerate((one, two)):
        for o in range(2):
            alone, depth_alone = cast_rays([volume], origins[o : o + 1], OCC3D_GRID)
            np.testing.assert_array_equal(alone[0, 0], labels[v, o])
            np.testing.assert_array_equal(depth_alone[0, 0], depth_m[v, o])


def test_a_wall_is_met_where_it_stands():
    scene = free()
    scene[150, :, :] = 15  # x from 20.0 to 20.4 m
    labels, depth_m = cast_rays([scene], np.array([[0.0, 0.1, 1.9]]), OCC3D_GRID)
    flat = np.abs(ray_pitches_rad()).argmin() * 360
    direction = ray_directions()[flat]
    assert labels[0, 0, flat] == 15
    # The distance at which the ray leaves the voxel it met.
    assert depth_m[0, 0, flat] == pytest.approx(20.4 / direction[0], abs=1e-3)


def test_casting_works_on_any_grid():
    grid = VoxelGrid("ego", (-2.0, -2.0, 0.0), 0.5, (8, 8, 8))
    scene = np.full(grid.shape, FREE, np.uint8)
    scene[7] = 15
    labels, depth_m = cast_rays([scene], np.array([[0.1, 0.1, 2.1]]), grid)
    assert np.sum(labels == 15) > 100 and depth_m.max() < 5
