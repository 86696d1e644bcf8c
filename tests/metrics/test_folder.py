"""Scoring a folder of predictions from the command line."""

import json

import numpy as np
import pytest
from nuscenes_root import token, write_root

from occjax.classes import FREE
from occjax.config import DataConfig
from occjax.data.index import load_index
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, VoxelGrid
from occjax.label_sets import label_set
from occjax.metrics.__main__ import main
from occjax.metrics.folder import score_folder
from occjax.metrics.prediction_files import read_prediction, write_prediction
from occjax.metrics.protocols import VoxelMiou
from occjax.metrics.rayiou import RayIou, ray_origins_m

SCENES = {"scene-0061": 2, "scene-0003": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("folder") / "nuscenes", scenes=SCENES)


def samples():
    return [(scene, frame, token(scene, frame)) for scene, count in SCENES.items() for frame in range(count)]


def occ3d_truth(root, scene, frame):
    return label_set("occ3d").read(root / "gts" / scene / token(scene, frame) / "labels.npz")[0]


def surroundocc_truth(root, scene, frame):
    return label_set("surroundocc").read(root / "surroundocc/samples" / f"{scene}__LIDAR_TOP__{frame}.pcd.bin.npy")[0]


def test_perfect_predictions_score_100_on_every_protocol(root, tmp_path, capsys):
    for scene, frame, name in samples():
        np.savez(tmp_path / f"{name}.npz", semantics=occ3d_truth(root, scene, frame))
    out = tmp_path / "scores" / "scores.json"
    command = ["--predictions", str(tmp_path), "--labels", str(root), "--protocol", "occ3d,rayiou", "--json", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "occ3d, camera mask" in printed and "rayiou, no mask" in printed and "3 samples" in printed
    scores = json.loads(out.read_text())["protocols"]
    assert [(s["protocol"], s["mask"]) for s in scores] == [
        ("Occ3D-nuScenes mIoU", "camera mask"),
        ("Occ3D-nuScenes mIoU", "no mask"),
        ("RayIoU", "no mask"),
    ]
    assert scores[0]["miou"] == scores[1]["miou"] == scores[2]["rayiou"] == 100


def test_npy_files_and_a_split(root, tmp_path):
    for scene, frame, name in samples():
        truth = surroundocc_truth(root, scene, frame)
        if scene == "scene-0003":
            truth = np.full_like(truth, FREE)
        np.save(tmp_path / f"{name}.npy", truth)
    whole = score_folder(tmp_path, root, protocols=("surroundocc",))["surroundocc"][0]
    train = score_folder(tmp_path, root, protocols=("surroundocc",), split="train")["surroundocc"][0]
    val = score_folder(tmp_path, root, protocols=("surroundocc",), split="val")["surroundocc"][0]
    assert (whole.samples, train.samples, val.samples) == (3, 2, 1)
    assert train.summary["miou"] == 1 and val.summary["miou"] == 0 and 0 < whole.summary["miou"] < 1


def test_a_prediction_on_another_grid_is_refused(root, tmp_path, capsys):
    scene, frame, name = samples()[0]
    write_prediction(tmp_path, name, surroundocc_truth(root, scene, frame), SURROUNDOCC_GRID)
    assert main(["--predictions", str(tmp_path), "--labels", str(root), "--protocol", "occ3d"]) == 2
    error = capsys.readouterr().err
    assert "ego frame" in error and "lidar frame" in error and name in error
    assert "--protocol surroundocc" in error


def test_predictions_on_a_crop_are_scored_there_and_on_one_grid_only(root, tmp_path, capsys):
    crop = VoxelGrid("lidar", (-20.0, -30.0, -5.0), 0.5, (80, 90, 16))
    state = VoxelMiou.empty(label_set("surroundocc"), crop)
    for scene, frame, name in samples():
        truth = surroundocc_truth(root, scene, frame)[60:140, 40:130]
        prediction = np.roll(truth, 1, axis=0)
        write_prediction(tmp_path, name, prediction, crop)
        state = state.update(prediction, truth)
    found = score_folder(tmp_path, root, protocols=("surroundocc",))["surroundocc"][0]
    assert [found] == state.compute() and 0 < found.summary["iou"] < 1
    moved = VoxelGrid("lidar", (-20.5, -30.0, -5.0), 0.5, (80, 90, 16))
    write_prediction(tmp_path, name, prediction, moved)
    assert main(["--predictions", str(tmp_path), "--labels", str(root)]) == 2
    assert "files of one folder" in capsys.readouterr().err


def test_rays_start_from_the_whole_scene_where_one_sample_is_scored(root, tmp_path):
    scene, frame, name = samples()[0]
    truth = occ3d_truth(root, scene, frame).copy()
    truth[:, :, 3:] = FREE
    np.savez(root / "gts" / scene / name / "labels.npz", semantics=truth, mask_camera=np.ones_like(truth))
    prediction = np.roll(truth, 1, axis=0)
    np.save(tmp_path / f"{name}.npy", prediction)
    found = score_folder(tmp_path, root, protocols=("rayiou",))["rayiou"][0]
    keyframes = load_index(DataConfig(root=str(root))).everything
    origins_m = ray_origins_m(keyframes, keyframes.tokens.index(name))
    assert len(origins_m) == SCENES[scene]
    assert [found] == RayIou.empty().update(prediction, truth, origins_m).compute()
    assert found.summary != RayIou.empty().update(prediction, truth, origins_m[:1]).compute()[0].summary


@pytest.mark.parametrize("axis", [-1, 0], ids=["class last", "class first"])
def test_scores_of_classes_become_their_argmax(root, tmp_path, axis, capsys):
    scene, frame, name = samples()[2]
    truth = occ3d_truth(root, scene, frame).copy()
    logits = np.moveaxis((np.arange(18) == truth[..., None]).astype(np.float16), -1, axis)
    np.savez_compressed(tmp_path / f"{name}.npz", logits=logits)
    command = ["--predictions", str(tmp_path), "--labels", str(root), "--protocol", "occ3d"]
    assert main(command) == 0 and " 100.00 " in capsys.readouterr().out
    logits[0, 0, 0] = np.nan
    np.savez_compressed(tmp_path / f"{name}.npz", logits=logits)
    assert main(command) == 2 and "NaN" in capsys.readouterr().err


def test_a_part_of_a_split_is_said_to_be_one(root, tmp_path, caplog):
    scene, frame, name = samples()[0]
    np.save(tmp_path / f"{name}.npy", surroundocc_truth(root, scene, frame))
    with caplog.at_level("WARNING"):
        score_folder(tmp_path, root, protocols=("surroundocc",))
    assert "1 of the 2 samples of split train have a prediction" in caplog.text and "split val" not in caplog.text


def test_every_mistake_is_named(root, tmp_path, capsys):
    def error_of(*arguments):
        assert main(["--predictions", str(tmp_path), "--labels", str(root), *arguments]) == 2
        return capsys.readouterr().err

    assert "holds no <sample token>" in error_of()
    free = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    np.save(tmp_path / "unheard-of.npy", free)
    assert "unheard-of" in error_of()
    assert "miou" in error_of("--protocol", "miou")
    assert "no split" not in error_of("--split", "val")
    (tmp_path / "unheard-of.npy").unlink()
    first = samples()[0][2]
    np.save(tmp_path / f"{first}.npy", free[..., 0])
    assert "integer classes [X, Y, Z]" in error_of()
    np.save(tmp_path / f"{first}.npy", free.swapaxes(0, 2))
    assert f"{first}.npy: expected shape (200, 200, 16)" in error_of()
    np.save(tmp_path / f"{first}.npy", free + np.uint8(1))
    assert f"{first}.npy: predicted classes must lie in 0 to 17" in error_of()
    (tmp_path / f"{first}.npy").write_bytes(b"nothing")
    assert "cannot be read" in error_of()
    np.save(tmp_path / f"{first}.npy", free)
    assert "lacks 1 of the 2 samples" in error_of("--split", "train")
    assert "cannot be written" in error_of("--json", str(tmp_path / f"{first}.npy" / "scores.json"))
    np.savez(tmp_path / f"{first}.npz", free)
    assert "as .npz and as .npy" in error_of()
    assert "no folder of predictions" in error_of("--predictions", str(tmp_path / "absent"))
    (tmp_path / f"{first}.npz").unlink()
    assert "does not exist" in error_of("--labels", str(tmp_path / "absent"))


def test_predictions_survive_the_disk(tmp_path):
    semantics = np.random.default_rng(0).integers(0, 18, (4, 3, 2), np.uint8)
    grid = OCC3D_GRID.__class__("ego", (-40.0, -40.0, -1.0), 0.4, (4, 3, 2))
    path = write_prediction(tmp_path, "abc", semantics, grid)
    read, read_grid = read_prediction(path)
    np.testing.assert_array_equal(read, semantics)
    assert read_grid == grid and [p.name for p in tmp_path.iterdir()] == ["abc.npz"]
