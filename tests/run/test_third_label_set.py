"""A label set that nobody has heard of, added in one place: it trains, evaluates, scores from files, and draws."""

from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_world import tiny_config

from occjax.classes import CLASS_NAMES, FREE
from occjax.config import DistillConfig, GridConfig
from occjax.config_checks import problems
from occjax.data.index import load_index
from occjax.drawing.__main__ import main as draw
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, LabelSet
from occjax.metrics.folder import score_folder
from occjax.metrics.prediction_files import write_prediction
from occjax.run.compare import prior_scores
from occjax.run.train import train
from occjax.system.mesh import make_mesh

# Frame, voxel size, corner and shape of its own; the model's grid is a crop of it.
GRID = VoxelGrid("lidar", (-10.0, -12.0, -3.0), 1.0, (20, 24, 6))
MODEL_GRID = GridConfig("lidar", (-8.0, -8.0, -3.0), 1.0, (16, 16, 6))
IGNORED = (0, 12)


def read(data, grid):
    """A flat row of classes, one sign for all that no camera sees."""
    voxels = np.frombuffer(data, np.int8)
    if voxels.size != grid.num_voxels:  # as readers must: what is asked may be another's file
        raise DataError(f"{voxels.size} bytes are no {grid}")
    voxels = voxels.reshape(grid.shape)
    return np.abs(voxels).astype(np.uint8), voxels >= 0


MADE_UP = LabelSet(
    name="made_up",
    grid=GRID,
    folder="third",
    file="{scene_name}.{token}.bin",
    reader=read,
    ignored=IGNORED,
    has_camera_mask=True,
    protocol="occ3d",
)


@pytest.fixture
def config(world, monkeypatch, tmp_path):
    """A run on the generated world, with its SurroundOcc labels written over into the third set's files."""
    monkeypatch.setitem(LABEL_SETS, MADE_UP.name, MADE_UP)
    config = tiny_config(world)
    config.data.labels, config.data.labels_dir, config.data.teacher_dir = MADE_UP.name, str(tmp_path / "third"), ""
    config.loss.distill, config.grid = DistillConfig(), MODEL_GRID
    config.train.steps, config.data.batch_size = 2, 1
    # Nothing in these knows label sets; without them the step compiles sooner.
    config.loss.depth = config.loss.scene_class_affinity = 0.0
    config.model.backbone.frozen_stages = 5
    surroundocc = LABEL_SETS["surroundocc"]
    keyframes = load_index(config.data).everything
    (tmp_path / "third").mkdir()
    for lidar, scene, token in zip(keyframes.lidar_file, keyframes.scene_names, keyframes.tokens, strict=True):
        names = {"lidar_file": lidar.decode(), "scene_name": scene, "token": token}
        semantics = surroundocc.read(surroundocc.path(world / "surroundocc", **names))[0]
        voxels = semantics[80:120:2, 76:124:2, 4::2].astype(np.int8)
        voxels[:5] *= -1  # not seen
        MADE_UP.path(tmp_path / "third", **names).write_bytes(voxels.tobytes())
    return config


@pytest.mark.slow
def test_a_third_label_set_trains_and_evaluates(config, tmp_path):
    assert problems(config) == []
    evaluation = train(config, tmp_path / "run", mesh=make_mesh(jax.devices()[:1]))
    results, (picture,) = evaluation.results, (tmp_path / "run/eval/step-2/pictures").iterdir()
    assert results["labels"] == "made_up" and [s["mask"] for s in results["protocols"]] == ["camera mask", "no mask"]
    assert results["grid"]["voxel_size_m"] == 1.0 and picture in evaluation.files
    ignored = {CLASS_NAMES[c] for c in IGNORED}
    assert all(set(scores["per_class"]) == set(CLASS_NAMES[:FREE]) - ignored for scores in results["protocols"])
    # What position alone would score, by the set's protocol on what it counts.
    assert 0 < prior_scores(config)["most frequent class of the voxel"]["iou"] < 100


def test_files_of_a_third_label_set_are_scored_and_drawn(config, tmp_path):
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    root.mkdir()
    for path in (*Path(config.data.root).iterdir(), tmp_path / "third"):
        (root / path.name).symlink_to(path)
    for path in (root / "third").iterdir():
        semantics = MADE_UP.read(path)[0]
        # Wrong only where nothing counts, and on the far side of what the cameras see.
        prediction = np.where(np.isin(semantics, IGNORED), np.uint8(4), semantics)
        prediction[:5] = FREE
        token = path.name.split(".")[1]
        write_prediction(predictions, token, prediction, GRID)
    masked, unmasked = score_folder(predictions, root, protocols=("made_up",), split="")["made_up"]
    assert masked.summary["miou"] == 1 > unmasked.summary["miou"] > 0
    page = tmp_path / "page.png"
    assert draw([str(predictions / f"{token}.npz"), "--truth", str(path), "--output", str(page)]) == 0 and page.exists()
