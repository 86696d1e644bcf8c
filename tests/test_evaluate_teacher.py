import pytest
from loading import make_config, write_teacher_folder
from nuscenes_root import write_root

from occjax.data.index import load_index
from occjax.errors import UserError
from occjax.evaluate_teacher import evaluate_teacher
from occjax.evaluation import Options


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
    return evaluate_teacher(config, index, split="val", output_dir=tmp_path, options=Options())


def test_a_teacher_that_repeats_the_labels_scores_100(world, tmp_path):
    result = scores(world, tmp_path)
    assert result.results["subject"] == "teacher" and result.results["samples"] == 3
    assert result.scalars["miou"] == result.scalars["iou"] == 100
    assert result.results["teacher_protocols"] == [] and (tmp_path / "metrics.json").exists()
    assert "teacher, truth 0 left out" in result.table


def test_teacher_files_of_other_samples_score_low(world, tmp_path, monkeypatch):
    from occjax.data.teacher import TeacherFolder

    _, _, index = world
    tokens = index.split("val").tokens
    read = TeacherFolder.read
    swapped = dict(zip(tokens, tokens[1:] + tokens[:1], strict=True))
    monkeypatch.setattr(TeacherFolder, "read", lambda self, token: read(self, swapped[token]))
    assert scores(world, tmp_path).scalars["miou_present"] < 10


def test_what_is_missing_is_named(world, tmp_path):
    root, folder, index = world
    with pytest.raises(UserError, match="set data.teacher_dir"):
        evaluate_teacher(make_config(root), index, split="val", output_dir=tmp_path, options=Options())
    config = make_config(root, teacher_dir=str(folder / "good"))
    with pytest.raises(UserError, match="does not hold voxel logits of every sample"):
        evaluate_teacher(config, index, split="train", output_dir=tmp_path, options=Options())
