import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE
from occjax.data.index import SplitIndex
from occjax.geometry import transform_from_pose
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.metrics.confusion import ScoringError
from occjax.metrics.ray_casting import cast_rays, ray_directions, ray_pitches_rad
from occjax.metrics.ray_casting_jax import cast_rays_jax
from occjax.metrics.rayiou import RayIou, ray_origins_m, select_origins

ORIGIN = np.array([[0.985793, 0.0, 1.84019]])
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


def free():
    return np.full(OCC3D_GRID.shape, FREE, np.uint8)


def golden_scene(name, origin):
    scene = free()
    if name == "ground_z0":
        scene[:, :, 0] = 11
    elif name == "wall_ix130":
        scene[130] = 15
    elif name == "origin_voxel_occupied":
        scene[tuple(OCC3D_GRID.indices_from_points(origin[None])[0][0])] = 4
    elif name.startswith("random"):
        rng = np.random.default_rng(0)
        chosen = rng.random(scene.shape) < 0.02
        scene[chosen] = rng.integers(0, 17, scene.shape)[chosen]
    return scene


def street(shift=0):
    scene = free()
    scene[:, :, 0] = 11
    scene[115:125, 95:101, 1:5] = 4
    scene[150] = 15
    return np.roll(scene, shift, axis=0)


@pytest.fixture(scope="module")
def goldens(shared_dir):
    return json.loads((shared_dir / "goldens/rayiou.json").read_text())


def test_rays_are_the_published_ones(goldens):
    np.testing.assert_allclose(np.rad2deg(ray_pitches_rad()), goldens["pitch_deg"], atol=2e-6)
    assert ray_directions().shape == (goldens["n_rays"], 3) and ray_directions().dtype == np.float32


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


@pytest.mark.parametrize("name", CASES)
def test_golden_rays_straight_ahead(goldens, name):
    golden = goldens["cases"][name]
    origin = np.array([golden["origin"]])
    labels, depth_m = cast_rays([golden_scene(name, origin[0])], origin, OCC3D_GRID)
    ahead = 360 * np.array([0, 9, 18, 25, 38])
    depths, classes = zip(*golden["ray_az0_by_pitch"], strict=True)
    np.testing.assert_allclose(depth_m[0, 0, ahead], depths, atol=1e-5)
    assert labels[0, 0, ahead].tolist() == list(classes)


def test_origin_selection(goldens):
    for count, chosen in goldens["origin_selection"].items():
        positions = np.stack([np.arange(int(count)) * 0.1, np.zeros(int(count)), np.zeros(int(count))], axis=1)
        assert np.round(select_origins(positions)[:, 0] / 0.1).astype(int).tolist() == chosen


def test_origins_far_away_are_left_out_strictly():
    positions = np.array([[39.0, 0, 0], [38.99, 0, 100], [0, -39.0, 0], [0, -38.99, 0]])
    assert select_origins(positions).tolist() == positions[[1, 3]].tolist()


def test_volumes_share_one_traversal():
    one, two = street(), golden_scene("random", None)
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


def test_perfect_is_100_and_all_free_0():
    perfect, nothing = (
        RayIou.empty().update(street(), street(), ORIGIN),
        RayIou.empty().update(free(), street(), ORIGIN),
    )
    assert perfect.compute().summary == {"rayiou": 1.0, "rayiou@1": 1.0, "rayiou@2": 1.0, "rayiou@4": 1.0}
    assert set(nothing.compute().summary.values()) == {0.0}
    assert np.isnan(perfect.compute().per_class["bus"])


def test_shifts_and_swapped_axes_cost():
    near, far = (RayIou.empty().update(street(shift), street(), ORIGIN).compute().summary for shift in (1, 4))
    assert 0.8 < near["rayiou"] < 0.99
    assert far["rayiou@1"] < far["rayiou@2"] < 1 and far["rayiou"] < near["rayiou"] - 0.1
    swapped = RayIou.empty().update(street().swapaxes(0, 1), street(), ORIGIN).compute().summary
    assert swapped["rayiou"] < 0.5


def test_score_by_hand():
    state = RayIou(
        1,
        np.array([[1] + [0] * 16, [2] + [0] * 16, [3] + [0] * 16]),
        np.eye(17, dtype=int)[0] * 4,
        np.eye(17, dtype=int)[0] * 3,
    )
    summary = state.compute().summary
    np.testing.assert_allclose([summary[f"rayiou@{t}"] for t in (1, 2, 4)], [1 / 6, 2 / 5, 3 / 4], rtol=1e-12)
    assert summary["rayiou"] == pytest.approx(np.mean([1 / 6, 2 / 5, 3 / 4]), abs=1e-12)


def test_rays_that_should_see_nothing_do_not_count():
    cluttered = free()
    cluttered[130] = 7
    state = RayIou.empty().update(cluttered, free(), ORIGIN)
    assert state.truth.sum() == state.predicted.sum() == 0 and np.isnan(state.compute().summary["rayiou"])


def test_merging_equals_counting_at_once():
    a, b = RayIou.empty().update(street(1), street(), ORIGIN), RayIou.empty().update(street(3), street(), ORIGIN)
    both = RayIou.empty().update(street(1), street(), ORIGIN).update(street(3), street(), ORIGIN)
    np.testing.assert_array_equal(a.merge(b).hits, both.hits)
    assert b.merge(a).compute().summary == both.compute().summary and both.samples == 2


def test_other_grids_and_unknown_classes_are_refused():
    with pytest.raises(GridMismatchError, match="RayIoU"):
        RayIou.empty().update(street(), street(), ORIGIN, grid=SURROUNDOCC_GRID)
    with pytest.raises(ScoringError, match="semantics must hold classes 0 to 17"):
        RayIou.empty().update(street(), np.where(street() == 4, np.uint8(255), street()), ORIGIN)
    with pytest.raises(ScoringError, match="expected shape"):
        RayIou.empty().update(street()[:100], street(), ORIGIN)


def test_origins_are_lidar_positions_of_the_whole_scene_in_the_ego_frame_of_the_sample():
    # A car that drives 10 m a keyframe along global x while looking along global y; then another scene.
    turn = (np.sqrt(0.5), 0, 0, np.sqrt(0.5))
    global_from_ego = np.stack([transform_from_pose(turn, [10.0 * k, 5, 0]) for k in range(5)])
    global_from_lidar = global_from_ego @ transform_from_pose((1, 0, 0, 0), [0.94, 0, 1.84])
    fields = dict.fromkeys((field.name for field in dataclasses.fields(SplitIndex)), np.zeros(0))
    fields |= {"name": "val", "root": Path(), "cameras": (), "scene": np.array([0, 0, 0, 0, 1])}
    split = SplitIndex(**fields | {"global_from_ego": global_from_ego, "global_from_lidar": global_from_lidar})
    # Ego x is global y and ego y is minus global x.
    expected = [[0.94, 20, 1.84], [0.94, 10, 1.84], [0.94, 0, 1.84], [0.94, -10, 1.84]]
    np.testing.assert_allclose(ray_origins_m(split, 2), expected, atol=1e-9)
    np.testing.assert_allclose(ray_origins_m(split, 4), [[0.94, 0, 1.84]], atol=1e-9)


def test_casting_works_on_any_grid():
    grid = VoxelGrid("ego", (-2.0, -2.0, 0.0), 0.5, (8, 8, 8))
    scene = np.full(grid.shape, FREE, np.uint8)
    scene[7] = 15
    labels, depth_m = cast_rays([scene], np.array([[0.1, 0.1, 2.1]]), grid)
    assert np.sum(labels == 15) > 100 and depth_m.max() < 5


@pytest.mark.parametrize("name", ["random_seed0_on_boundary", "random_seed0_origin_above", "all_free"])
def test_the_compiled_loop_equals_numpy_bit_for_bit(goldens, name):
    origins = np.array([goldens["cases"][name]["origin"], [38.9, -38.9, 1.84], [0.4, 0.8, -1.5]])
    volumes = [golden_scene(name, None), street()]
    labels, depth_m = cast_rays(volumes, origins, OCC3D_GRID)
    labels_jax, depth_jax_m = cast_rays_jax(volumes, origins, OCC3D_GRID)
    np.testing.assert_array_equal(labels_jax, labels)
    np.testing.assert_array_equal(depth_jax_m, depth_m)
    assert depth_jax_m.dtype == np.float32 and jnp.zeros(1).dtype == jnp.float32


def test_any_caster_gives_the_same_score():
    one, two = (RayIou.empty().update(street(2), street(), ORIGIN, caster=c) for c in (cast_rays, cast_rays_jax))
    np.testing.assert_array_equal(one.hits, two.hits)
    assert one.compute().summary == two.compute().summary
