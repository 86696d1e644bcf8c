"""The published protocols on cases counted by hand."""

import dataclasses
import functools
import typing

import jax
import numpy as np
import pytest

from occjax.classes import FREE
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.label_sets import LABEL_SETS, LabelSet
from occjax.metrics.across_processes import merge
from occjax.metrics.confusion import ConfusionMatrix, ScoringError
from occjax.metrics.protocols import PROTOCOLS, VoxelMiou

OCC3D, SURROUNDOCC = LABEL_SETS["occ3d"], LABEL_SETS["surroundocc"]


def line_of(labels, grid):
    """A crop of `grid` that holds `labels` along x."""
    small = VoxelGrid(grid.frame, grid.lower_m, grid.voxel_size_m, (len(labels), 1, 1))
    return np.array(labels, np.uint8).reshape(small.shape), small


def occ3d_of(truth, prediction, camera_mask=None):
    truth, grid = line_of(truth, OCC3D_GRID)
    mask = np.ones(truth.shape, np.uint8) if camera_mask is None else np.reshape(camera_mask, truth.shape)
    return VoxelMiou.empty(OCC3D, grid).update(line_of(prediction, OCC3D_GRID)[0], truth, mask)


def surroundocc_of(truth, prediction):
    truth, grid = line_of(truth, SURROUNDOCC_GRID)
    return VoxelMiou.empty(SURROUNDOCC, grid).update(line_of(prediction, SURROUNDOCC_GRID)[0], truth)


def random_case(seed, shape=(8, 6, 4)):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 4, 11, 15, FREE, 255], size=shape, p=[0.05, 0.1, 0.2, 0.1, 0.5, 0.05]).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, np.minimum(truth, FREE), rng.integers(0, 18, shape))
    return truth, prediction.astype(np.uint8), rng.random(shape) < 0.5


@pytest.mark.parametrize(
    ("truth", "prediction", "occ3d", "surroundocc", "iou"),
    [
        ([4, 4, 17, 17], [4, 17, 4, 17], 33.33, 95.83, 33.33),
        ([0, 4, 17], [4, 4, 17], 25.00, 100.0, 100.0),
        ([4, 17], [0, 0], 0.00, 93.75, 50.00),
    ],
)
def test_unit_cases_of_the_protocols(truth, prediction, occ3d, surroundocc, iou):
    assert round(100 * occ3d_of(truth, prediction).compute()[0].summary["miou"], 2) == occ3d
    scores = surroundocc_of(truth, prediction).compute()[0]
    assert round(100 * scores.summary["miou"], 2) == surroundocc
    assert round(100 * scores.summary["iou"], 2) == iou


def test_every_label_set_leads_to_a_protocol_and_averages_what_it_does_not_ignore():
    assert set(PROTOCOLS) == set(typing.get_args(typing.get_type_hints(LabelSet)["protocol"]))
    found = {name: VoxelMiou.empty(labels).compute()[0].protocol for name, labels in LABEL_SETS.items()}
    assert found == {name: PROTOCOLS[name].name for name in LABEL_SETS}
    assert OCC3D.classes == tuple(range(17)) and SURROUNDOCC.classes == tuple(range(1, 17))


def test_occ3d_needs_its_camera_mask_and_a_set_without_one_scores_without():
    truth, grid = line_of([4, 4, 17], OCC3D_GRID)
    with pytest.raises(ScoringError, match="occ3d labels need their camera mask"):
        VoxelMiou.empty(OCC3D, grid).update(truth, truth)
    maskless = dataclasses.replace(OCC3D, has_camera_mask=False, ignored=(3,))
    (scores,) = VoxelMiou.empty(maskless, grid).update(truth, truth).compute()
    assert scores.mask == "no mask" and scores.summary["miou"] == 1 and "bus" not in scores.per_class


def test_perfect_predictions_score_100_and_all_free_what_the_protocol_says():
    truth = [0, 3, 4, 11, 15, 17, 17]
    perfect, nothing = occ3d_of(truth, truth).compute()[0], occ3d_of(truth, [17] * 7).compute()[0]
    assert perfect.summary["miou"] == perfect.summary["iou"] == perfect.summary["bev_miou"] == 1
    assert nothing.summary["miou"] == nothing.summary["iou"] == nothing.summary["bev_iou"] == 0
    perfect, nothing = surroundocc_of(truth, truth).compute()[0], surroundocc_of(truth, [17] * 7).compute()[0]
    assert perfect.summary["miou"] == perfect.summary["iou"] == 1
    # Absent classes count 1: 4 of 16 are present.
    assert nothing.summary["miou"] == 12 / 16 and nothing.summary["iou"] == 0


def test_camera_mask_hides_errors_from_the_masked_score_only():
    masked, unmasked = occ3d_of([4, 4, 17], [4, 11, 17], camera_mask=[1, 0, 1]).compute()
    assert masked.summary["miou"] == 1 and masked.mask == "camera mask"
    assert unmasked.summary["miou"] == pytest.approx((1 / 2 + 0) / 2) and unmasked.mask == "no mask"


def test_absent_classes_are_skipped_by_occ3d_and_count_one_for_surroundocc():
    assert np.isnan(occ3d_of([4], [4]).compute()[0].per_class["bus"])
    assert surroundocc_of([4], [4]).compute()[0].per_class["bus"] == 1
    assert surroundocc_of([4], [3]).compute()[0].per_class["bus"] == 1
    assert "free" not in occ3d_of([4], [4]).compute()[0].per_class


def test_unknown_voxels_count_nowhere():
    assert occ3d_of([4, 255], [4, 3]).compute()[0].summary["miou"] == 1
    assert surroundocc_of([4, 255, 0], [4, 3, 3]).compute()[0].summary["iou"] == 1


def test_group_means_take_their_classes_only():
    summary = occ3d_of([4, 10, 11, 15], [4, 17, 11, 15]).compute()[0].summary
    assert summary["dynamic_miou"] == 0.5 and summary["static_miou"] == 1 and summary["miou"] == 0.75


@pytest.mark.parametrize("change", ["swap", "shift"])
def test_swapped_axes_and_shifted_voxels_lose(change):
    truth = np.full(SURROUNDOCC_GRID.shape, FREE, np.uint8)
    truth[60:90, 100:104, 2:5] = 4
    wrong = truth.swapaxes(0, 1) if change == "swap" else np.roll(truth, 1, axis=1)
    assert VoxelMiou.empty(SURROUNDOCC).update(wrong, truth).compute()[0].summary["iou"] < 0.7
    assert VoxelMiou.empty(OCC3D).update(wrong, truth, np.ones_like(truth)).compute()[0].summary["miou"] < 0.7


def test_merging_is_associative_and_equals_counting_at_once():
    cases = [random_case(seed) for seed in range(3)]
    grid = VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.4, cases[0][0].shape)
    one_by_one = [VoxelMiou.empty(OCC3D, grid).update(p, t, m) for t, p, m in cases]
    at_once = functools.reduce(lambda s, c: s.update(c[1], c[0], c[2]), cases, VoxelMiou.empty(OCC3D, grid))
    a, b, c = one_by_one
    for merged in (
        merge(merge(a, b), c),
        merge(a, merge(b, c)),
        merge(merge(merge(c, VoxelMiou.empty(OCC3D, grid)), b), a),
    ):
        for found, expected in zip(jax.tree.leaves(merged), jax.tree.leaves(at_once), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert merged.samples == 3 and type(merged.samples) is int
    assert at_once.compute()[0].summary["miou"] != a.compute()[0].summary["miou"]


def test_counts_do_not_overflow_32_bits():
    state = ConfusionMatrix.empty().update(*(np.full(3, FREE, np.uint8),) * 2, np.ones(3, bool))
    for _ in range(31):
        state = merge(state, state)
    assert state.counts[FREE, FREE] == 3 * 2**31


def test_the_wrong_grid_is_refused():
    with pytest.raises(GridMismatchError, match="no aligned crop"):
        VoxelMiou.empty(OCC3D, SURROUNDOCC_GRID)
    with pytest.raises(GridMismatchError, match="no aligned crop"):
        VoxelMiou.empty(SURROUNDOCC, OCC3D_GRID)
    with pytest.raises(GridMismatchError, match="merging"):
        merge(occ3d_of([4], [4]), occ3d_of([4, 4], [4, 4]))


def test_what_cannot_be_scored_is_named():
    free = np.full(SURROUNDOCC_GRID.shape, FREE, np.uint8)
    with pytest.raises(ScoringError, match=r"prediction \(200, 200\)"):
        VoxelMiou.empty(SURROUNDOCC).update(free[..., 0], free)
    with pytest.raises(ScoringError, match="predicted classes must lie in 0 to 17, found 17-18"):
        surroundocc_of([17, 17], [17, 18])


def test_bev_score_looks_at_kept_voxels_only():
    truth = np.array([[[11, 4], [11, 17], [0, 0]]], np.uint8)
    prediction = np.array([[[11, 17], [11, 17], [11, 11]]], np.uint8)
    state = VoxelMiou.empty(SURROUNDOCC, VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, truth.shape)).update(
        prediction, truth
    )
    # Column 0: truth car, predicted road; column 1: road; column 2 does not count.
    assert state.compute()[0].summary["bev_miou"] == pytest.approx((0 + 1 / 2) / 2)
    assert state.compute()[0].summary["bev_iou"] == 1


def test_a_column_counts_in_the_bev_score_by_any_of_its_voxels():
    # Noise, which does not count, under a car that was taken for road.
    truth, prediction = np.array([[[0, 4]]], np.uint8), np.array([[[17, 11]]], np.uint8)
    grid = VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, truth.shape)
    summary = VoxelMiou.empty(SURROUNDOCC, grid).update(prediction, truth).compute()[0].summary
    assert summary["bev_iou"] == 1 and summary["bev_miou"] == 0


def test_real_occ3d_labels_score_100_against_themselves(shared_dir):
    with np.load(shared_dir / "data/occ3d_real/labels.npz") as file:
        semantics, mask = file["semantics"], file["mask_camera"]
    for scores in VoxelMiou.empty(OCC3D).update(semantics, semantics, mask).compute():
        assert scores.summary["miou"] == scores.summary["iou"] == scores.summary["bev_miou"] == 1
    shifted = VoxelMiou.empty(OCC3D).update(np.roll(semantics, 1, axis=0), semantics, mask).compute()[0]
    swapped = VoxelMiou.empty(OCC3D).update(semantics.swapaxes(0, 1), semantics, mask).compute()[0]
    assert shifted.summary["miou"] < 0.8 and swapped.summary["miou"] < 0.2
