import dataclasses
import json
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import NUSCENES_CAMERAS, Config, EvalConfig
from occjax.data.index import SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.label_sets import LABEL_SETS
from occjax.metrics.on_device import VoxelSummary, summarise
from occjax.metrics.prediction_files import read_prediction
from occjax.run.scoring import EvaluatedModel, Outputs, completed_evaluation, evaluate
from occjax.system.stop_requests import StopRequested
from occjax.types import Batch, CameraRig, VoxelLabels

SHAPE = (20, 16, 8)
SOURCE = {"kind": "backbone", "file": "r50.npz", "sha256": "0123456789abcdef"}
STUDENT = EvaluatedModel("student", "ema", 300, initialisation=SOURCE)
PLAIN = Outputs()


def make_config(labels="surroundocc"):
    config = Config()
    config.data.labels = labels
    config.data.cameras = NUSCENES_CAMERAS[:1]
    config.grid.shape = SHAPE
    if labels == "occ3d":
        config.grid.frame, config.grid.lower_m, config.grid.voxel_size_m = "ego", (-4.0, -4.0, -1.0), 0.4
    else:
        config.grid.lower_m = (-5.0, -5.0, -5.0)
    return config


def make_split(count):
    fields = dict.fromkeys((field.name for field in dataclasses.fields(SplitIndex)), np.zeros(0))
    fields |= {"name": "val", "root": Path(), "cameras": NUSCENES_CAMERAS[:1]}
    fields["camera_size"] = np.full((count, 1, 2), (32, 16), np.int32)
    fields["sample_token"] = np.array([f"token{i}".encode() for i in range(count)])
    fields["scene"], fields["frame_index"] = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    fields["scene_name"] = np.array([b"scene-0001"])
    return SplitIndex(**fields)


def truth_of(row):
    return np.random.default_rng(row).choice([0, 4, 11, FREE], size=SHAPE, p=[0.05, 0.1, 0.25, 0.6]).astype(np.uint8)


def batches(count, size, *, has_mask=False):
    """A loader's batches: the last is completed with samples that are marked as padding."""
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        semantics = np.stack([truth_of(row % count) for row in rows])
        mask = np.stack([np.random.default_rng(row % count + 99).random(SHAPE) < 0.5 for row in rows])
        yield Batch(
            images=np.full((size, 1, 16, 32, 3), 90, np.uint8),
            rig=CameraRig(None, None, None, None, np.ones((size, 1), bool)),
            depth_m=None,
            labels=VoxelLabels(semantics, mask if has_mask else None),
            teacher=None,
            sample_index=(rows % count).astype(np.int32),
            is_valid=rows < count,
        )


def predictor(config, change=lambda semantics: semantics):
    """Predicts `change(truth)` with certainty; nonsense for padding."""

    def predict_fn(batch):
        semantics = np.where(batch.is_valid[:, None, None, None], change(batch.labels.semantics), 9)
        logits = 20 * jax.nn.one_hot(semantics, NUM_CLASSES)
        summary = summarise(
            logits, jax.tree.map(jnp.asarray, batch), label_set=LABEL_SETS[config.data.labels], use_camera_mask=True
        )
        return jax.tree.map(np.asarray, summary)

    return predict_fn


def run(tmp_path, *, labels="surroundocc", count=5, size=2, change=lambda s: s, outputs=PLAIN, **options):
    config = make_config(labels)
    return evaluate(
        predictor(config, change),
        batches(count, size, has_mask=labels == "occ3d"),
        make_split(count),
        config,
        model=STUDENT,
        output_dir=tmp_path / "eval",
        outputs=outputs,
        **options,
    )


@pytest.mark.parametrize("labels", ["surroundocc", "occ3d"])
def test_perfect_predictions_score_100(tmp_path, labels):
    result = run(tmp_path, labels=labels)
    assert result.scalars["miou"] == result.scalars["iou"] == result.scalars["bev_miou"] == 100
    assert result.scalars["occupancy_calibration_error"] < 0.1


def test_padding_and_batch_size_change_nothing(tmp_path):
    def swap(semantics):
        return np.roll(semantics, 1, axis=1)

    one, three = (run(tmp_path, change=swap, size=size).results for size in (1, 3))
    assert one["samples"] == three["samples"] == 5
    assert one["protocols"] == three["protocols"] and one["protocols"][0]["miou_present"] < 60
    assert one["occupancy_calibration_error"] == three["occupancy_calibration_error"]


def test_metrics_json_says_what_was_measured(tmp_path):
    result = run(tmp_path, labels="occ3d")
    written = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert written == json.loads(json.dumps(result.results))
    assert (written["split"], written["samples"], written["weights"], written["step"]) == ("val", 5, "ema", 300)
    assert [p["mask"] for p in written["protocols"]] == ["camera mask", "no mask"]
    assert all(p["protocol"] == "Occ3D-nuScenes mIoU" and "ego frame" in p["grid"] for p in written["protocols"])
    assert written["initialisation"] == SOURCE
    assert written["grid"]["voxel_size_m"] == 0.4 and "jax" in written["versions"]
    assert written["protocols"][0]["per_class"]["bus"] is None
    assert written["called_free"]["obstacles"] == {"10 m": 0, "20 m": 0} and written["temperature"] is None


def test_what_is_called_free_near_the_vehicle_is_said(tmp_path):
    def blind(semantics):
        return np.where(semantics == 4, np.uint8(FREE), semantics)

    found = run(tmp_path, change=blind).results["called_free"]
    truths = np.stack([truth_of(row) for row in range(5)])
    cars, roads = np.sum(truths == 4), np.sum(truths == 11)
    # The whole grid, up to 5 m to each side, is within 10 m.
    share = pytest.approx(100 * cars / (cars + roads))
    assert found == {"occupied": {"10 m": share, "20 m": share}, "obstacles": {"10 m": 100, "20 m": 100}}


def test_the_table_is_complete(tmp_path):
    result = run(tmp_path)
    text = result.summary(tmp_path)
    for part in ("SurroundOcc mIoU/IoU", "lidar frame", "truth 0 left out", "split val, ema weights of step 300"):
        assert part in text
    assert "of step 300, from backbone r50.npz, sha256 0123456789ab, 5 samples" in text
    assert "14 of 16 classes have no voxel of truth here" in text
    assert "called free within 10 and 20 m of the vehicle: 0.00 and 0.00 % of the occupied voxels" in text
    assert "published" not in text  # five samples are not the validation split
    assert str(tmp_path / "eval/metrics.json") in text


def test_pictures_and_predictions_are_written(tmp_path):
    result = run(tmp_path, outputs=Outputs(pictures=2, save_predictions=True))
    pictures = sorted(p.name for p in (tmp_path / "eval/pictures").iterdir())
    assert pictures == ["scene-0001_000_token0.png", "scene-0001_004_token4.png"]
    semantics, grid = read_prediction(tmp_path / "eval/predictions/token3.npz")
    np.testing.assert_array_equal(semantics, truth_of(3))
    assert grid == make_config().grid.build()
    assert set(result.files) >= {tmp_path / "eval/pictures" / name for name in pictures}


def test_a_completed_pass_is_read_back(tmp_path):
    wanted = EvalConfig(weights=STUDENT.weights, pictures=2)

    def read():
        return completed_evaluation(tmp_path / "eval", wanted, make_split(5), STUDENT.step)

    assert read() is None
    result, found = run(tmp_path, outputs=Outputs(pictures=2)), read()
    assert found is not None and found.summary(tmp_path) == result.summary(tmp_path)
    assert found.scalars == result.scalars and found.results == json.loads(json.dumps(result.results))
    (tmp_path / "eval/metrics.json").write_text('{"step": 3')  # as a full disk leaves it
    assert read() is None
    (tmp_path / "eval/metrics.json").unlink()
    assert read() is None


def test_a_pass_is_given_up_after_the_batch_in_hand(tmp_path):
    run(tmp_path)
    # Whoever asks between batches is told at the second one.
    answers = iter([0, signal.SIGTERM])
    with pytest.raises(StopRequested):
        run(tmp_path, outputs=Outputs(save_predictions=True), asked=lambda together: next(answers) if together else 0)
    files = sorted(path.name for path in (tmp_path / "eval").rglob("*") if path.is_file())
    assert files == [f"token{i}.npz" for i in range(4)]


def test_a_pass_that_breaks_off_leaves_no_metrics(tmp_path):
    run(tmp_path)

    def broken(semantics):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        run(tmp_path, change=broken)
    assert not (tmp_path / "eval/metrics.json").exists()


def test_two_passes_do_not_mix_their_files(tmp_path):
    run(tmp_path, count=5, outputs=Outputs(pictures=2, save_predictions=True))
    run(tmp_path, count=2, outputs=Outputs(pictures=1, save_predictions=True))
    assert sorted(p.name for p in (tmp_path / "eval/predictions").iterdir()) == ["token0.npz", "token1.npz"]
    assert len(list((tmp_path / "eval/pictures").iterdir())) == 1


def run_without_labels(tmp_path, outputs):
    """As `run`, on batches that have no labels; truth goes into the predictor by another way."""
    config = make_config()

    def predict_fn(batch):
        semantics = np.stack([truth_of(row) for row in batch.sample_index])
        return VoxelSummary(semantics, None, None)

    return evaluate(
        predict_fn,
        (batch._replace(labels=None) for batch in batches(5, 2)),
        make_split(5),
        config,
        model=STUDENT,
        output_dir=tmp_path / "eval",
        outputs=outputs,
    )


def test_without_labels_predictions_are_written_and_nothing_is_scored(tmp_path):
    run(tmp_path)  # its metrics.json must not be taken for the next pass's
    result = run_without_labels(tmp_path, Outputs(pictures=1, save_predictions=True))
    assert "nothing to score: split val has no surroundocc labels" in result.summary(tmp_path)
    assert result.scalars == {} and not (tmp_path / "eval/metrics.json").exists()
    assert len(list((tmp_path / "eval/predictions").iterdir())) == 5
    np.testing.assert_array_equal(read_prediction(tmp_path / "eval/predictions/token4.npz")[0], truth_of(4))
    assert [path.name for path in result.files] == ["predictions", "scene-0001_000_token0.png", "scene.html"]


@pytest.mark.parametrize("labels", ["surroundocc", "occ3d"])
def test_real_labels_score_100_through_the_loader(shared_dir, tmp_path, labels):
    config = Config()
    config.data.root, config.data.labels = str(shared_dir / "data/nuscenes_real"), labels
    config.data.index_dir = str(tmp_path / "index")
    config.data.image_height, config.data.image_width, config.data.workers = 32, 64, 0
    if labels == "occ3d":
        config.grid.frame, config.grid.lower_m, config.grid.voxel_size_m = "ego", (-40.0, -40.0, -1.0), 0.4
    index = load_index(config.data)
    loader = make_eval_loader(config, index, "val", Parts(labels=True), batch_size=1)
    result = evaluate(
        predictor(config),
        loader,
        index.split("val"),
        config,
        model=STUDENT,
        output_dir=tmp_path / "eval",
        outputs=Outputs(pictures=1, rayiou=True),
    )
    assert result.scalars["miou"] == result.scalars["iou"] == 100
    assert ("rayiou" in result.scalars) is (labels == "occ3d")
    assert result.scalars.get("rayiou", 100) == 100
