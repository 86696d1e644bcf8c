"""The audit names what was done to a dump, and lets a good one pass."""

import functools

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.convert.dump import audit as audit_module
from occjax.convert.dump.audit import confusion, score, shift, shifts, symmetries
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.protocols import VoxelMiou


def scene(seed, size=40):
    """A ground plane with boxes of several classes in random places."""
    r = np.random.default_rng(seed)
    labels = np.full((size, size, 8), FREE, np.uint8)
    labels[:, :, 2] = np.where(r.random((size, 1)) < 0.5, 11, 13)
    for _ in range(14):
        x, y = r.integers(0, size - 8, 2)
        labels[x : x + r.integers(2, 8), y : y + r.integers(2, 8), 3 : r.integers(4, 8)] = r.integers(1, 17)
    return labels


def teacher_of(labels, seed):
    """Right in nine voxels of ten."""
    r = np.random.default_rng(seed + 100)
    wrong = r.random(labels.shape) < 0.1
    return np.where(wrong & (labels != FREE), np.uint8(FREE), labels)


LABELS = LABEL_SETS["surroundocc"]
audit = functools.partial(audit_module.audit, labels=LABELS)
TRUTHS = [scene(seed) for seed in range(3)]
GOOD = [teacher_of(labels, seed) for seed, labels in enumerate(TRUTHS)]


def test_a_good_dump_passes_and_says_its_score():
    found = audit(GOOD, TRUTHS)
    assert found.problem == "" == found.remedy
    assert found.true_pairing.iou > 0.85 > 0.6 > found.shuffled.iou
    assert "true pairing" in found.report() and "shuffled" in found.report()


def test_score_is_the_published_protocol():
    pairs = list(zip(TRUTHS, [GOOD[1], GOOD[2], GOOD[0]], strict=True))
    pairs[0][0][:5] = 0  # noise in the truth is left out
    grid = VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, TRUTHS[0].shape)
    state = VoxelMiou.empty(LABELS, grid)
    for truth, prediction in pairs:
        state = state.update(prediction, truth)
    theirs = state.compute()[0].summary
    found = score([confusion(truth, prediction, LABELS) for truth, prediction in pairs], LABELS)
    assert found == (theirs["miou"], theirs["iou"], theirs["miou_present"])


def test_by_hand_case_of_the_protocol():
    found = score([confusion(np.array([4, 4, 17, 17], np.uint8), np.array([4, 17, 4, 17], np.uint8), LABELS)], LABELS)
    assert 100 * found.miou == pytest.approx(95.83, abs=0.01) and 100 * found.iou == pytest.approx(33.33, abs=0.01)


def test_swapped_samples_are_called_an_order_problem():
    assert "order of the samples" in audit([GOOD[1], GOOD[2], GOOD[0]], TRUTHS).problem
    assert "order of the samples" in audit(GOOD[1::-1], TRUTHS[:2]).problem


def test_unrelated_samples_are_an_order_problem_too():
    others = [teacher_of(scene(seed), seed) for seed in (10, 11, 12)]
    found = audit(others, TRUTHS)
    assert found.problem


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda v: v.swapaxes(0, 1), "x and y swapped fits"),
        (lambda v: v[::-1], "x flipped"),
        (lambda v: v[:, ::-1], "y flipped"),
        (lambda v: v[::-1, ::-1], "turned by 180"),
        (lambda v: np.rot90(v, 1), "turned by 90"),
        (lambda v: np.rot90(v, -1), "turned by 270"),
        (lambda v: v.swapaxes(0, 1)[::-1, ::-1], "x and y swapped and both flipped"),
        (lambda v: v[..., ::-1], "z flipped"),
    ],
)
@pytest.mark.parametrize("samples", [1, 3])
def test_each_symmetry_is_named(change, name, samples):
    found = audit([change(v) for v in GOOD[:samples]], TRUTHS[:samples])
    assert found.problem.startswith("axes flipped or swapped") and name in found.problem
    assert "turn the dump's axes" in found.remedy


def test_flipped_maps_are_undone_by_options_and_other_orders_are_named_by_others():
    maps = [[v.min(2, keepdims=True) for v in volumes] for volumes in (GOOD, TRUTHS)]
    flipped = audit([v[::-1] for v in maps[0]], maps[1])
    assert flipped.problem.startswith("axes") and "--bev-flip-x" in flipped.remedy
    order = audit([GOOD[1], GOOD[2], GOOD[0]], TRUTHS)
    assert "--infos" in order.remedy and "--bev" not in order.remedy and "--source-grid" not in order.remedy


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [-1, 1])
def test_each_shift_is_named(axis, step):
    found = audit([shift(v, axis, step) for v in GOOD], TRUTHS)
    assert found.problem.startswith("voxels shifted")
    assert f"shifted by {step:+d} voxel along {'xyz'[axis]}" in found.problem


def test_one_place_off_in_the_order_is_named():
    later = [scene(seed + 50) for seed in range(3)]
    predictions = [teacher_of(v, i) for i, v in enumerate(later)]
    found = audit(predictions, TRUTHS, neighbours={1: later, -1: [None] * 3})
    assert "order off by +1" in found.problem


def test_the_other_grid_is_named():
    other = [scene(seed + 70) for seed in range(3)]
    found = audit([teacher_of(v, i) for i, v in enumerate(other)], TRUTHS, other_grids={"occ3d": other})
    assert found.problem.startswith("wrong grid: the grid of occ3d") and "--source-grid" in found.remedy


def test_classes_in_another_order_are_named():
    renamed = [np.where(v == FREE, FREE, (v + 1) % FREE).astype(np.uint8) for v in GOOD]
    found = audit(renamed, TRUTHS)
    assert found.problem.startswith("order of the classes") and "--match" not in found.remedy


def test_two_swapped_samples_among_others_are_found():
    truths = [scene(seed) for seed in range(8)]
    predictions = [teacher_of(labels, seed) for seed, labels in enumerate(truths)]
    assert audit(predictions, truths).problem == ""
    predictions[2], predictions[5] = predictions[5], predictions[2]
    assert audit(predictions, truths).problem.startswith("order of the samples")


def test_one_sample_that_fits_its_neighbour_is_found():
    truths = [scene(seed) for seed in range(4)]
    predictions = [teacher_of(labels, seed) for seed, labels in enumerate(truths)]
    neighbours = {1: [*truths[1:], None]}
    assert audit(predictions, truths, neighbours=neighbours).problem == ""
    neighbours[1][3] = scene(9)
    predictions[3] = teacher_of(scene(9), 9)
    assert audit(predictions, truths, neighbours=neighbours).problem.startswith("order of the samples")


def test_one_sample_of_another_place_has_no_axes_to_blame():
    for seed in range(10, 16):
        assert audit([teacher_of(scene(seed), seed)], TRUTHS[:1]).problem.startswith("order of the samples")


def test_an_empty_dump_is_refused():
    found = audit([np.full_like(v, FREE) for v in TRUTHS], TRUTHS)
    assert found.problem and "--free-id" in found.remedy


def test_every_named_move_is_undone_by_its_function():
    volume = np.random.default_rng(0).integers(0, 18, (6, 6, 3)).astype(np.uint8)
    assert len(symmetries()) == 7 and len(shifts()) == 6
    images = {move(volume).tobytes() for move in symmetries().values()} | {volume.tobytes()}
    assert len(images) == 8
    assert np.array_equal(shift(shift(volume, 0, 1), 0, -1)[:-1], volume[:-1])
    assert (shift(volume, 2, 3) == FREE).all()
