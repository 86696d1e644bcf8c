from pathlib import Path

import numpy as np
import pytest
from loading import make_config, write_teacher_folder
from nuscenes_root import write_root

from occjax.classes import FREE
from occjax.config import GridConfig
from occjax.data.index import load_index
from occjax.errors import UserError
from occjax.grid import OCC3D_GRID
from occjax.run.evaluate import evaluate_teacher
from occjax.run.scoring import Outputs
from occjax.targets.files import SparseTeacher, compact_teacher, write_manifest, write_teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A root and a teacher that gives every label 0.9; the second folder belongs to other samples."""
    folder = tmp_path_factory.mktemp("teacher")
    root = write_root(folder / "nuscenes", scenes={"scene-0003": 3, "scene-0061": 1})
    index = load_index(make_config(root).data)
    write_teacher_folder(folder / "good", index.split("val"))
    return root, folder, index


def scores(world, tmp_path, **data):
    root, folder, index = world
    config = make_config(root, teacher_dir=str(folder / "good"), **data)
    return evaluate_teacher(config, index, split="val", output_dir=tmp_path, outputs=Outputs())


def test_a_teacher_that_repeats_the_labels_scores_100(world, tmp_path):
    result = scores(world, tmp_path)
    assert result.results["subject"] == "teacher" and result.results["samples"] == 3
    assert result.scalars["miou"] == result.scalars["iou"] == 100
    assert result.results["teacher_protocols"] == [] and (tmp_path / "metrics.json").exists()
    assert "teacher, truth 0 left out" in result.table


def test_pictures_of_the_teacher_say_whose_they_are(world, tmp_path, monkeypatch):
    captions = []

    def draw(images, *_, caption, aspects, **__):
        captions.append((caption, aspects))
        return images[0]

    monkeypatch.setattr("occjax.run.sample_sheet.draw_sample", draw)
    root, folder, index = world
    config = make_config(root, teacher_dir=str(folder / "good"))
    evaluate_teacher(config, index, split="val", output_dir=tmp_path, outputs=Outputs(pictures=1))
    width, height = index.split("val").camera_size[0, 0]
    assert captions == [("teacher", [width / height] * 2)]


def test_teacher_files_of_other_samples_score_low(world, tmp_path, monkeypatch):
    from occjax.targets.folder import TeacherFolder

    _, _, index = world
    tokens = index.split("val").tokens
    decode = TeacherFolder.decode
    swapped = dict(zip(tokens, tokens[1:] + tokens[:1], strict=True))

    def decode_another(self, data, token, where):
        return decode(self, self.path(swapped[token]).read_bytes(), swapped[token], where)

    monkeypatch.setattr(TeacherFolder, "decode", decode_another)
    assert scores(world, tmp_path).scalars["miou_present"] < 10


def test_what_is_missing_is_named(world, tmp_path):
    root, folder, index = world
    with pytest.raises(UserError, match="set data.teacher_dir"):
        evaluate_teacher(make_config(root), index, split="val", output_dir=tmp_path, outputs=Outputs())
    config = make_config(root, teacher_dir=str(folder / "good"))
    with pytest.raises(UserError, match="does not hold voxel logits of every sample"):
        evaluate_teacher(config, index, split="train", output_dir=tmp_path, outputs=Outputs())


def test_a_teacher_that_knows_a_part_of_occ3ds_grid_is_scored_on_it(tmp_path):
    root = write_root(tmp_path / "nuscenes", scenes={"scene-0003": 1})
    config = make_config(root, labels="occ3d", teacher_dir=str(tmp_path / "teacher"))
    config.grid = GridConfig("ego", OCC3D_GRID.lower_m, OCC3D_GRID.voxel_size_m, OCC3D_GRID.shape)
    index = load_index(config.data)
    truth = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    truth[:, :, 1], truth[140], truth[10] = 11, 4, 15
    (path,) = root.glob("gts/*/*/labels.npz")
    np.savez(path, semantics=truth, mask_camera=np.ones_like(truth), mask_lidar=np.ones_like(truth))
    valid = np.ones(truth.shape, bool)
    valid[:50] = False
    occupied = np.flatnonzero((truth != FREE) & valid).astype(np.int32)
    rows = np.full((len(occupied), 18), 0.1 / 17, np.float32)
    rows[np.arange(len(occupied)), truth.ravel()[occupied]] = 0.9
    sparse = SparseTeacher(occupied, rows, np.array([1e-5] * 17 + [1 - 17e-5], np.float32))
    folder = Path(config.data.teacher_dir)
    folder.mkdir()
    (token,) = index.split("val").tokens
    write_teacher(folder / f"{token}.npz", compact_teacher(token, OCC3D_GRID, sparse, valid=valid))
    write_manifest(
        folder,
        grid=OCC3D_GRID,
        form="compact",
        samples=1,
        max_active_voxels=len(occupied),
        contents={"voxels": True, "bev": False, "validity": True},
        source="labels",
        matched_by="token",
        value_kind={"probabilities": 1},
        details={},
    )

    outputs = Outputs(rayiou=True)
    result = evaluate_teacher(config, index, split="val", output_dir=tmp_path / "eval", outputs=outputs)
    occ3d, _, rays = result.results["protocols"]
    assert occ3d["miou"] == rays["rayiou"] == 100 and rays["per_class"]["manmade"] is None
    assert result.results["scope"] in result.table and "the teacher knows" in result.table
