import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ray_scenes import ORIGIN, free, street

from occjax.data.index import SplitIndex
from occjax.geometry import transform_from_pose
from occjax.grid import SURROUNDOCC_GRID, GridMismatchError
from occjax.metrics import rayiou
from occjax.metrics.across_processes import merge
from occjax.metrics.confusion import ScoringError
from occjax.metrics.rayiou import RayIou, ray_origins_m, select_origins


@pytest.fixture(scope="module")
def goldens(shared_dir):
    return json.loads((shared_dir / "goldens/rayiou.json").read_text())


def test_origin_selection(goldens):
    for count, chosen in goldens["origin_selection"].items():
        positions = np.stack([np.arange(int(count)) * 0.1, np.zeros(int(count)), np.zeros(int(count))], axis=1)
        assert np.round(select_origins(positions)[:, 0] / 0.1).astype(int).tolist() == chosen


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_golden_scores_of_shifted_scenes(goldens, shift):
    golden = goldens["rayiou_single_origin"][f"shift_x_{shift}" if shift else "identical"]
    state = RayIou.empty().update(street(shift), street(), ORIGIN)
    summary = state.compute()[0].summary
    assert summary["rayiou"] == pytest.approx(golden["RayIoU"], abs=1e-9)
    np.testing.assert_allclose([summary[f"rayiou@{t}"] for t in (1, 2, 4)], golden["at"], rtol=0, atol=1e-9)
    for name, ious in golden["per_class"].items():
        np.testing.assert_allclose(state.iou()[:, int(name)], ious, rtol=0, atol=1e-9)
    assert np.isnan(state.iou()).all(0).sum() == 17 - len(golden["per_class"])
    # Each class is one object here, so its panoptic quality is its IoU where that makes a match.
    quality = np.nanmean(np.where(state.iou() <= 0.5, 0, state.iou()), axis=1)
    expected = [golden["RayPQ"][f"RayPQ@{t}"] for t in (1, 2, 4)]
    np.testing.assert_allclose([*quality, quality.mean()], [*expected, golden["RayPQ"]["RayPQ"]], rtol=0, atol=1e-9)


def test_golden_score_of_all_free(goldens):
    golden = goldens["rayiou_single_origin"]["all_free"]
    state = RayIou.empty().update(free(), street(), ORIGIN)
    assert state.compute()[0].summary["rayiou"] == golden["RayIoU"] == 0
    assert np.nansum(state.iou()) == 0 and set(np.flatnonzero(state.truth)) == {int(c) for c in golden["per_class"]}


def test_origins_far_away_are_left_out_strictly():
    positions = np.array([[39.0, 0, 0], [38.99, 0, 100], [0, -39.0, 0], [0, -38.99, 0]])
    assert select_origins(positions).tolist() == positions[[1, 3]].tolist()


def test_perfect_is_100_and_all_free_0():
    perfect, nothing = (
        RayIou.empty().update(street(), street(), ORIGIN),
        RayIou.empty().update(free(), street(), ORIGIN),
    )
    assert perfect.compute()[0].summary == {"rayiou": 1.0, "rayiou@1": 1.0, "rayiou@2": 1.0, "rayiou@4": 1.0}
    assert set(nothing.compute()[0].summary.values()) == {0.0}
    assert np.isnan(perfect.compute()[0].per_class["bus"])


def test_shifts_and_swapped_axes_cost():
    near, far = (RayIou.empty().update(street(shift), street(), ORIGIN).compute()[0].summary for shift in (1, 4))
    assert 0.8 < near["rayiou"] < 0.99
    assert far["rayiou@1"] < far["rayiou@2"] < 1 and far["rayiou"] < near["rayiou"] - 0.1
    swapped = RayIou.empty().update(street().swapaxes(0, 1), street(), ORIGIN).compute()[0].summary
    assert swapped["rayiou"] < 0.5


def test_published_labels_score_100_against_themselves_and_less_when_moved(shared_dir):
    with np.load(shared_dir / "data/occ3d_real/labels.npz") as file:
        truth = file["semantics"]
    moved = {"nothing": truth, "a voxel": np.roll(truth, 1, axis=1), "axes": truth.swapaxes(0, 1)}
    found = {
        how: RayIou.empty().update(voxels, truth, ORIGIN).compute()[0].summary["rayiou"]
        for how, voxels in moved.items()
    }
    assert found["nothing"] == 1 and 0.3 < found["a voxel"] < 0.95 and found["axes"] < 0.2


def test_score_by_hand():
    state = RayIou(
        1,
        np.array([[1] + [0] * 16, [2] + [0] * 16, [3] + [0] * 16]),
        np.eye(17, dtype=int)[0] * 4,
        np.eye(17, dtype=int)[0] * 3,
    )
    summary = state.compute()[0].summary
    np.testing.assert_allclose([summary[f"rayiou@{t}"] for t in (1, 2, 4)], [1 / 6, 2 / 5, 3 / 4], rtol=1e-12)
    assert summary["rayiou"] == pytest.approx(np.mean([1 / 6, 2 / 5, 3 / 4]), abs=1e-12)


def test_a_hit_is_nearer_than_the_threshold_not_at_it(monkeypatch):
    # Truth at 10 m, and what is predicted 1, 2, 4 and 0.5 m behind it: SparseOcc counts |error| < threshold. No two
    # borders of voxels are a whole metre apart along a ray, so what the rays meet is given here.
    labels = np.full((2, 1, 4), 4, np.uint8)
    depths = np.float32([[[10, 10, 10, 10]], [[11, 12, 14, 10.5]]])
    monkeypatch.setattr(rayiou, "cast_rays", lambda volumes, origins_m, grid: (labels, depths))
    state = RayIou.empty().update(street(), street(), ORIGIN)
    assert state.hits[:, 4].tolist() == [1, 2, 3] and state.truth[4] == state.predicted[4] == 4
    # 1 / (4 + 4 - 1) and so on.
    np.testing.assert_allclose(state.iou()[:, 4], [1 / 7, 2 / 6, 3 / 5], rtol=1e-12)


def test_rays_that_should_see_nothing_do_not_count():
    cluttered = free()
    cluttered[130] = 7
    state = RayIou.empty().update(cluttered, free(), ORIGIN)
    assert state.truth.sum() == state.predicted.sum() == 0 and np.isnan(state.compute()[0].summary["rayiou"])


def test_rays_that_meet_what_is_unknown_do_not_count():
    unknown = street()
    unknown[115:, :, :] = 255
    partly = RayIou.empty().update(street(), unknown, ORIGIN)
    whole = RayIou.empty().update(street(), street(), ORIGIN)
    assert partly.truth[15] == 0 < whole.truth[15] and partly.truth[4] == whole.truth[4] > 0
    assert partly.compute()[0].summary["rayiou"] == 1


def test_merging_equals_counting_at_once():
    a, b = RayIou.empty().update(street(1), street(), ORIGIN), RayIou.empty().update(street(3), street(), ORIGIN)
    both = RayIou.empty().update(street(1), street(), ORIGIN).update(street(3), street(), ORIGIN)
    np.testing.assert_array_equal(merge(a, b).hits, both.hits)
    assert merge(b, a).compute()[0].summary == both.compute()[0].summary and both.samples == 2


def test_other_grids_and_unknown_classes_are_refused():
    with pytest.raises(GridMismatchError, match="RayIoU"):
        RayIou.empty().update(street(), street(), ORIGIN, grid=SURROUNDOCC_GRID)
    with pytest.raises(ScoringError, match="semantics must hold classes 0 to 17"):
        RayIou.empty().update(street(), np.where(street() == 4, np.uint8(200), street()), ORIGIN)
    with pytest.raises(ScoringError, match="prediction must hold classes 0 to 17"):
        RayIou.empty().update(np.where(street() == 4, np.uint8(255), street()), street(), ORIGIN)
    with pytest.raises(ScoringError, match="integers, found prediction of float32"):
        RayIou.empty().update(street().astype(np.float32), street(), ORIGIN)
    with pytest.raises(ScoringError, match=r"origins must be \[O, 3\]"):
        RayIou.empty().update(street(), street(), ORIGIN[0])
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
