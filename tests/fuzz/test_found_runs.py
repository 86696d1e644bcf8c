"""What the fuzzer found in folders of runs and exports and in calibrations: test_found.py has the rest."""

import functools
import hashlib
import json

import grain
import jax
import numpy as np
import pytest
from nuscenes_root import write_root
from tiny_state import tiny_state
from torch_files import tensor, write

from occjax.config import Config, DataConfig, EvalConfig
from occjax.convert.torch_zip import WeightsFileError, load_checkpoint
from occjax.data.index import load_index
from occjax.data.pipeline import BatchLoader
from occjax.errors import DataError
from occjax.predict.calibration import read_calibration
from occjax.predict.checkpoint_folders import CheckpointError
from occjax.predict.export_folder import ExportError, read_manifest, read_model
from occjax.predict.exported import ExportedPredictor
from occjax.predict.rig import CalibrationError
from occjax.predict.stored_weights import read_student
from occjax.run.evaluations import full_evaluations
from occjax.run.initialisation import NOT_RECORDED, said_of
from occjax.run.scoring import completed_evaluation
from occjax.run_config import stored_initialisation
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints
from occjax.train.metrics_log import MetricsLog

SCORES = {"subject": "student", "step": 4, "weights": "ema", "split": "val", "samples": 1, "split_samples": 1}
PROTOCOL = {"protocol": "SurroundOcc", "mask": "none", "grid": "a grid", "miou": 20.0}
RESULTS = {**SCORES, "protocols": [PROTOCOL], "teacher_agreement": None, "occupancy_calibration_error": 3.0}


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", '"x"', "[" * 100_000, "{}", json.dumps({**RESULTS, "step": "4"})),
        *(json.dumps({**RESULTS, "protocols": value}) for value in ([], 3, [3], {"a": 1})),
        json.dumps({**RESULTS, "teacher_agreement": 5}),
    ],
)
def test_scores_that_are_none(tmp_path, text):
    """A damaged metrics.json is no evaluation: it is made again, and compared with nothing."""
    folder = tmp_path / "eval/step-4"
    folder.mkdir(parents=True)
    (folder / "table.txt").touch()
    split = load_index(DataConfig(root=str(write_root(tmp_path / "root", scenes={"scene-0003": 1})))).split("val")
    config = EvalConfig(pictures=0)
    (folder / "metrics.json").write_text(json.dumps(RESULTS))
    assert full_evaluations(tmp_path) and completed_evaluation(folder, config, split, 4) is not None
    (folder / "metrics.json").write_text(text)
    assert completed_evaluation(folder, config, split, 4) is None
    assert "teacher_agreement" in text or not full_evaluations(tmp_path)


@pytest.mark.parametrize("line", ["{}", "[]", "7", "[" * 100_000, '{"step": null, "group": "x"}', '{"step": "x"}'])
def test_lines_of_a_log(tmp_path, line):
    kept = '{"step": 1, "group": "train", "loss": 1.0}'
    (tmp_path / "log.jsonl").write_bytes(f"{kept}\n{line}\n".encode() + b"\xff\n")
    log = MetricsLog(tmp_path, 2)
    log.close()
    assert log.has(1, "train") and (tmp_path / "log.jsonl").read_text() == kept + "\n"


@pytest.fixture
def checkpointed(tmp_path):
    """A workdir with checkpoints of steps 2 and 4, the latter the best."""
    saved = Checkpoints(tmp_path)
    for step in (2, 4):
        saved.save(step, tiny_state(step), {"next_batch": step})
    saved.save_best(4, tiny_state(4), {"next_batch": 4}, 20.0)
    saved.close()
    return tmp_path


@pytest.mark.parametrize(
    "score", ["", "[]", "{", "[" * 100_000, '{"miou_present": "20"}', '{"miou_present": [1]}', b"\xff"]
)
def test_score_of_the_best(checkpointed, score):
    """The weights are whole: they stay the best until others are scored."""
    path = checkpointed / "best/4/metrics/metrics"
    path.write_bytes(score if isinstance(score, bytes) else score.encode())
    student, mesh = jax.eval_shape(tiny_state).ema, make_mesh()
    read = functools.partial(read_student, checkpointed, student["params"], student["batch_stats"], mesh, which="ema")
    assert read(best=True).step == 4
    opened = Checkpoints(checkpointed)
    assert read(best=True).step == 4
    assert opened.save_best(6, tiny_state(6), {"next_batch": 6}, 1.0)
    opened.close()
    assert read(best=True).step == 6


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"commit_timestamp_nsecs": "x"}', '{"metrics": 7}'])
def test_marker_of_a_checkpoint(checkpointed, content):
    (checkpointed / "checkpoints/4/_CHECKPOINT_METADATA").write_text(content)
    if not content:  # as orbax has it, too
        Checkpoints(checkpointed).close()
        return
    with pytest.raises(CheckpointError, match="checkpoints/4 is damaged .* step 2 is the next newest"):
        Checkpoints(checkpointed)


@pytest.mark.parametrize("position", ["[]", "3", '"x"', "["])
def test_position_in_the_data(checkpointed, position):
    (checkpointed / "checkpoints/4/data/metadata").write_text(position)
    opened = Checkpoints(checkpointed)
    with pytest.raises(CheckpointError, match="checkpoints/4 is damaged .* step 2 is the next newest"):
        opened.restore(jax.eval_shape(tiny_state), make_mesh())
    opened.close()


@pytest.mark.parametrize("next_batch", [None, "6", -1, 1.5, []])
def test_number_of_a_batch(next_batch):
    loader = BatchLoader(grain.MapDataset.range(4), DataConfig(workers=0), batch_size=1, identity={"samples": 4})
    loader.set_state({"samples": 4, "next_batch": 3})
    with pytest.raises(DataError, match="next_batch .* no number of a batch: the newest checkpoint is damaged"):
        loader.set_state({"samples": 4, "next_batch": next_batch})
    assert loader.get_state() == {"samples": 4, "next_batch": 3}


@pytest.mark.parametrize("value", [5, "x", [], {"kind": "random", "more": 1}, {"file": "x"}, None])
def test_what_a_run_started_from(tmp_path, value):
    (tmp_path / "config.json").write_text(json.dumps({"initialisation": value, "data": value}))
    assert said_of(stored_initialisation(tmp_path)) == NOT_RECORDED


RIG = {"cameras": ["a"], "pixel_from_cam": [[[1] * 3] * 3], "cam_from_grid": [[[1] * 4] * 4]}
MANIFEST_OF_EXPORT = {
    **{"formats": {"onnx": {}}, "outputs": ["classes"], "input": [1, 1, 4, 8, 3], "step": 4, "coverage": 0.5},
    "rig": {**RIG, "input_from_pixel": [[[1] * 3] * 3]},
    "grid": Config().grid.build().to_dict(),
    "sha256": {"model.onnx": hashlib.sha256(b"model").hexdigest()},
}


@pytest.mark.parametrize(
    "change",
    [
        *({"rig": []}, {"rig": RIG}, {"rig": {**MANIFEST_OF_EXPORT["rig"], "cameras": ["a", "b"]}}, {"outputs": 3}),
        *({"rig": {**MANIFEST_OF_EXPORT["rig"], "cameras": [["a"]]}}, {"input": [1, 2]}, {"input": ["x"] * 5}),
        *({"input": size} for size in ([1, 1, 1 << 40, 8, 3], [1, 2, 4, 8, 3], [1, 1, 4, 8, 4], [1, 1, -4, -8, 3], 3)),
        *({"rig": {**MANIFEST_OF_EXPORT["rig"], "cam_from_grid": "x"}}, {"coverage": None}, {"outputs": [None]}),
        {"rig": {**MANIFEST_OF_EXPORT["rig"], "cam_from_grid": [[[1] * 3] * 3]}},
        {"rig": {**MANIFEST_OF_EXPORT["rig"], "cam_from_grid": [[[float("nan")] * 4] * 4]}},
        *({"grid": {}}, {"grid": None}, {"step": None}, {"outputs": ["bev", "classes"]}, {"outputs": ["classes"] * 2}),
        *({"formats": []}, {"formats": {}}, {"formats": {"pickle": {}}}, {"sha256": []}, {"sha256": {"a": "b"}}),
    ],
)
def test_manifest_of_an_export(tmp_path, change):
    (tmp_path / "export.json").write_text(json.dumps(MANIFEST_OF_EXPORT))
    assert read_manifest(tmp_path)["coverage"] == 0.5
    (tmp_path / "export.json").write_text(json.dumps({**MANIFEST_OF_EXPORT, **change}))
    with pytest.raises(ExportError, match=r"export.json cannot be read: .*; export again"):
        read_manifest(tmp_path)


def test_a_model_that_is_damaged_or_of_another_export_is_not_run(tmp_path):
    (tmp_path / "export.json").write_text(json.dumps(MANIFEST_OF_EXPORT))
    config = Config()
    config.data.image_height, config.data.image_width = 4, 8
    with pytest.raises(ExportError, match=r"cannot read .*model.onnx, .*No such file or directory; export again"):
        ExportedPredictor(config, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"model")
    assert read_model(tmp_path, read_manifest(tmp_path), "model.onnx") == b"model"
    (tmp_path / "model.onnx").write_bytes(b"modem")
    with pytest.raises(ExportError, match=r"model.onnx is damaged, or not of the export .*; export again"):
        ExportedPredictor(config, tmp_path)
    # Beside the configuration of another export.
    for lower_m, width in (((-8.0, -50.0, -5.0), 8), (config.grid.lower_m, 16)):
        config.grid.lower_m, config.data.image_width = lower_m, width
        with pytest.raises(ExportError, match="for another grid or input size than its config.json"):
            ExportedPredictor(config, tmp_path)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame: [ego]\ncameras: {}", "frame must be one of .*, not .'ego'"),
        ("frame: 2000-99-99\ncameras: {}", "is no YAML"),
        (LAUGHS + "frame: *a9\ncameras: {}", "more than 100000 values"),
        ("frame: &a [*a]\ncameras: {}", "more than 100000 values"),
        ("frame: ego\ncameras: {A: {image_width: " + "9" * 400 + "}}", "A lacks image_width"),
        (
            "frame: ego\ncameras: {A: {image_width: 9, image_height: 9, K: [" + "9" * 400 + "]}}",
            "K of A must be a list",
        ),
    ],
)
def test_calibrations_of_odd_values(tmp_path, text, says):
    (tmp_path / "rig.yaml").write_text(text)
    with pytest.raises(CalibrationError, match=says):
        read_calibration(tmp_path / "rig.yaml")


def test_an_empty_tensor_of_numbers_beyond_all_others(tmp_path):
    content = {"x": tensor("0", (0, 2), (1 << 62, 1))}
    (found,) = load_checkpoint(write(tmp_path / "a.pth", content, {"0": np.zeros(4, np.float32)})).values()
    with pytest.raises(WeightsFileError, match="reaches outside its storage"):
        found.array()
