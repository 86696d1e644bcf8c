import dataclasses

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.across_processes import merge
from occjax.metrics.combined import CombinedScores, ScoredSample, TeacherAnswer
from occjax.metrics.protocols import VoxelMiou
from occjax.metrics.rayiou import RayIou
from occjax.metrics.report import format_table, full_table, published_lines, results_dict

SMALL = VoxelGrid("lidar", (-5.0, -5.0, -5.0), 0.5, (20, 20, 16))


def sample(truth, prediction, *, teacher=None, camera_mask=None):
    answer = None if teacher is None else TeacherAnswer(teacher, np.ones(truth.shape, bool), np.array([2.0, 1.0]))
    return ScoredSample(prediction, truth, camera_mask, None, answer)


def nothing():
    return CombinedScores.empty(LABEL_SETS["surroundocc"], SMALL, rayiou=False)


def street(grid, seed=0):
    rng = np.random.default_rng(seed)
    semantics = np.full(grid.shape, FREE, np.uint8)
    semantics[:, :, 2] = 11
    semantics[rng.integers(0, grid.shape[0], 9), rng.integers(0, grid.shape[1], 9), 3:6] = 4
    return semantics


def test_published_numbers_stand_beside_the_whole_validation_split_only():
    whole = VoxelMiou.empty(LABEL_SETS["surroundocc"])
    whole = dataclasses.replace(whole, samples=6019)
    assert any("SurroundOcc mIoU 20.30" in line for line in published_lines(whole.compute()[0]))
    part = dataclasses.replace(whole, samples=6018)
    assert published_lines(part.compute()[0]) == []
    cropped = dataclasses.replace(VoxelMiou.empty(LABEL_SETS["surroundocc"], SMALL), samples=6019)
    assert published_lines(cropped.compute()[0]) == []
    rays = dataclasses.replace(RayIou.empty(), samples=6019)
    assert any("34.9" in line for line in published_lines(rays.compute()[0]))


def test_every_number_stands_in_its_row_and_column():
    truth, half = street(SMALL), street(SMALL)
    half[:, ::2, 2] = FREE
    columns = [
        (name, VoxelMiou.empty(LABEL_SETS["surroundocc"], SMALL).update(prediction, truth).compute()[0])
        for name, prediction in (("perfect", truth), ("half", half))
    ]
    table = format_table(columns, about="split val", remarks=["  a remark"])
    rows = {line[:24].strip(): line[24:].split() for line in table.splitlines()}
    assert rows["driveable_surface"] == ["100.00", "50.00"]
    assert rows["mIoU"][0] == "100.00" and float(rows["mIoU, classes present"][1]) == pytest.approx(75)
    assert table.splitlines()[0] == f"SurroundOcc mIoU/IoU | {SMALL}"
    assert "split val, 1 sample; per cent" in table and table.endswith("  a remark")


def test_where_a_class_has_no_truth_the_mean_of_the_others_comes_first():
    truth, half = street(SMALL), street(SMALL)
    half[:, ::2, 2] = FREE
    scores = VoxelMiou.empty(LABEL_SETS["surroundocc"], SMALL).update(half, truth).compute()[0]
    table = format_table([("student", scores)], about="", remarks=[])
    assert table.index("mIoU, classes present") < table.index("\nmIoU ")
    same = scores._replace(summary={"miou": 0.5, "miou_present": 0.5})
    table = format_table([("student", same)], about="", remarks=[])
    assert table.index("\nmIoU ") < table.index("mIoU, classes present")


def test_the_teacher_is_scored_where_it_knows_and_beside_the_student():
    truth = street(SMALL)
    teacher = truth.copy()
    teacher[:10] = FREE
    known = np.ones(truth.shape, bool)
    known[:10] = False
    answer = TeacherAnswer(teacher, known, np.array([2.0, 1.0]))
    given = sample(truth, truth)._replace(teacher=answer)
    state = nothing().update(given, None)
    results = results_dict(state)
    assert results["teacher_protocols"][0]["miou"] == 100
    assert results["teacher_agreement"]["kl_nats"] == pytest.approx(3 / known.sum())
    table = full_table(state, heading="student", about="split val")
    assert "student, truth 0 left out" in table and "teacher, truth 0 left out" in table
    assert "agreement with the teacher: 100.00 %" in table and "agreement, teacher's voxels" in table


def test_agreement_is_shown_by_the_teachers_class():
    teacher = street(SMALL)
    student = teacher.copy()
    student[::2, :, 2] = FREE
    state = nothing()
    table = full_table(state.update(sample(teacher, student, teacher=teacher), None), heading="student", about="")
    rows = {line[:24].strip(): line[24:].split() for line in table.splitlines()}
    assert rows["driveable_surface"][2] == "50.00" and rows["car"][2] == "100.00" and rows["mIoU"][2] == "-"


def test_rays_are_counted_on_the_full_occ3d_grid_only():
    origins_m = np.array([[0.9, 0.1, 1.8]])
    mask = np.ones(OCC3D_GRID.shape, bool)
    truth = street(OCC3D_GRID)
    state = CombinedScores.empty(LABEL_SETS["occ3d"], OCC3D_GRID, rayiou=True)
    state = state.update(sample(truth, np.roll(truth, 1, axis=0), camera_mask=mask), origins_m)
    protocols = results_dict(state)["protocols"]
    assert [p["protocol"] for p in protocols] == ["Occ3D-nuScenes mIoU"] * 2 + ["RayIoU"]
    assert 0 < protocols[2]["rayiou"] < 100 and "RayIoU at 2 m" in full_table(state, heading="student", about="")
    crop = VoxelGrid("ego", (-4.0, -4.0, -1.0), 0.4, (20, 20, 16))
    assert CombinedScores.empty(LABEL_SETS["occ3d"], crop, rayiou=True).rayiou is None
    assert CombinedScores.empty(LABEL_SETS["surroundocc"], SURROUNDOCC_GRID, rayiou=True).rayiou is None
    with pytest.raises(GridMismatchError):
        CombinedScores.empty(LABEL_SETS["occ3d"], SMALL, rayiou=False)


def test_merging_keeps_every_part():
    truth = street(SMALL)
    one = nothing().update(sample(truth, truth, teacher=truth), None)
    two = nothing().update(sample(truth, street(SMALL, 1)), None)
    merged = merge(one, two)
    assert merged.predictions.samples == 2 and merged.teacher.samples == 1
    assert results_dict(merged)["protocols"][0]["miou_present"] < 100
    assert results_dict(two)["teacher_agreement"] is None
