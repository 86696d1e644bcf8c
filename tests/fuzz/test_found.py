"""What the fuzzer found: one small input of every kind, made here, and refused in words since."""

import functools
import io
import json
import struct
import zipfile

import grain
import jax
import numpy as np
import pytest
from fuzz_npz import bomb, npy
from nuscenes_root import write_root
from teacher_folder import GRID, write_folder
from tiny_state import tiny_state
from torch_files import tensor, write

from occjax.config import Config, DataConfig, EvalConfig
from occjax.config_checks import problems
from occjax.convert.dump.arrays import DumpError, read_dump_array
from occjax.convert.torch_zip import WeightsFileError, load_checkpoint
from occjax.data.index import load_index
from occjax.data.pipeline import BatchLoader
from occjax.data.records import LABELS, LIDAR, TEACHER, decode_record, read_shard
from occjax.errors import DataError
from occjax.mesh import make_mesh
from occjax.metrics.confusion import ScoringError
from occjax.metrics.prediction_files import read_prediction
from occjax.npz import ArrayFileError, read_npz
from occjax.predict.checkpoint_folders import CheckpointError
from occjax.predict.export import ExportError, read_manifest
from occjax.predict.stored_weights import read_student
from occjax.run.evaluations import full_evaluations
from occjax.run.initialisation import NOT_RECORDED, said_of
from occjax.run.scoring import completed_evaluation
from occjax.run_config import WorkdirError, load_config, stored_initialisation
from occjax.targets.folder import TeacherFileError, TeacherFolder
from occjax.train.checkpoint import Checkpoints
from occjax.train.metrics_log import MetricsLog


@pytest.mark.parametrize("sizes", [[], None, True, "", {"a": -1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": [1]}])
def test_sizes_of_a_record(sizes):
    header = json.dumps({"token": "t", "sizes": sizes}).encode()
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_record(struct.pack("<Q", len(header)) + header + b"x")


FACTS = {"cameras": ["CAM_FRONT"], LIDAR: False, LABELS: None, TEACHER: None}
MANIFESTS = {
    "facts are a number": {"facts": 3},
    "facts lack parts": {"facts": {"cameras": []}},
    "cameras are lists": {"facts": {**FACTS, "cameras": [["CAM_FRONT"]]}},
    "cameras are text": {"facts": {**FACTS, "cameras": "CAM_FRONT"}},
    "tokens are a number": {"tokens": 1.5},
    "tokens are lists": {"tokens": [["t"]]},
    "size is infinite": {"size_bytes": float("inf")},
}


@pytest.mark.parametrize("damage", MANIFESTS)
def test_manifest_of_a_shard(tmp_path, damage):
    path = tmp_path / "train-00000-of-00001.json"
    content = {"facts": FACTS, "tokens": ["t"], "size_bytes": 3, "samples": 1, **MANIFESTS[damage]}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="cannot be read .*; delete"):
        read_shard(path)


def test_brackets_without_end(tmp_path):
    """Python's reader of JSON gives up at its own limit, with an error that is no ValueError."""
    root = write_root(tmp_path / "root", scenes={"scene-0061": 1})
    deep = "[" * 100_000
    (root / "splits.json").write_text(deep)
    with pytest.raises(DataError, match="splits file .* is no JSON"):
        load_index(DataConfig(root=str(root)))
    (root / "v1.0-trainval/scene.json").write_text(deep)
    with pytest.raises(DataError, match="scene.json: it is no JSON"):
        load_index(DataConfig(root=str(root)))
    folder = write_folder(tmp_path / "teacher")
    (folder / "manifest.json").write_text(deep)
    with pytest.raises(TeacherFileError, match="cannot be read"):
        TeacherFolder(folder, GRID)
    (tmp_path / "config.json").write_text(deep)
    with pytest.raises(WorkdirError, match="does not fit"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["data"].update(batch_size="8"),
        lambda config: config["data"].update(cameras=[["CAM_FRONT"]]),
        lambda config: config["train"].update(ema_decay=1),
        lambda config: config.update(train=3),
        lambda config: config.update(grid=[]),
        lambda config: config.clear() or config.update({"": 1}),
    ],
)
def test_values_of_another_type_in_the_configuration_of_a_run(tmp_path, change):
    config = Config().to_dict()
    change(config)
    (tmp_path / "config.json").write_text(json.dumps({"config": config}))
    with pytest.raises(WorkdirError, match="does not fit"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "field, value",
    [
        *(("shape", (200, 200, 10**400)), ("shape", (1 << 40, 200, 16)), ("lower_m", (-50.0, float("-inf"), -5.0))),
        *(("lower_m", (float("nan"), 0.0, 0.0)), ("lower_m", (1e308, 0.0, 0.0))),
        *(("voxel_size_m", 1e308), ("voxel_size_m", 1e-300), ("voxel_size_m", float("inf"))),
    ],
)
def test_numbers_of_a_grid_beyond_all_others(field, value):
    config = Config()
    setattr(config.grid, field, value)
    assert any(problem.startswith("grid: ") for problem in problems(config))


def test_an_archive_whose_directory_points_before_its_beginning(tmp_path):
    folder = write_folder(tmp_path / "teacher")
    path = folder / "a.npz"
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, bytes(data).rindex(b"PK\x05\x06") + 16, len(data) + 1000)
    path.write_bytes(data)
    with pytest.raises(TeacherFileError, match="cannot be read"):
        TeacherFolder(folder, GRID).read("a")
    with pytest.raises(ArrayFileError):
        read_npz(path)


def test_zeros_that_unpack_to_a_hundred_megabytes(tmp_path, monkeypatch):
    """The head of the array says that it is empty: the rest is never unpacked, by whatever reader."""
    zipped, member = io.BytesIO(), b"m" * len(bomb())
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("pred_occ.npy", member)
    data = bytearray(zipped.getvalue().replace(member, bomb()))
    for signature, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        at = bytes(data).index(signature)
        struct.pack_into("<H", data, at + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", data, at + size, 128 + (100 << 20))
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    for read, error in ((read_dump_array, DumpError), (read_prediction, ScoringError)):
        with pytest.raises(error, match=r"\(0,\), 0 bytes, but 104857600 are there"):
            read(path)


def test_numbers_of_a_dump_that_are_objects(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(np.array([{}], object)))
    with pytest.raises(DumpError, match="Python objects never"):
        read_dump_array(tmp_path / "a.npy")


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
}


@pytest.mark.parametrize(
    "change",
    [
        *({"rig": []}, {"rig": RIG}, {"rig": {**MANIFEST_OF_EXPORT["rig"], "cameras": ["a", "b"]}}, {"outputs": 3}),
        *({"rig": {**MANIFEST_OF_EXPORT["rig"], "cameras": [["a"]]}}, {"input": [1, 2]}, {"input": ["x"] * 5}),
        *({"rig": {**MANIFEST_OF_EXPORT["rig"], "cam_from_grid": "x"}}, {"coverage": None}, {"outputs": [None]}),
        *({"formats": []}, {"formats": {}}, {"formats": {"pickle": {}}}),
    ],
)
def test_manifest_of_an_export(tmp_path, change):
    (tmp_path / "export.json").write_text(json.dumps(MANIFEST_OF_EXPORT))
    assert read_manifest(tmp_path)["coverage"] == 0.5
    (tmp_path / "export.json").write_text(json.dumps({**MANIFEST_OF_EXPORT, **change}))
    with pytest.raises(ExportError, match=r"export.json cannot be read: .*; export again"):
        read_manifest(tmp_path)


def test_an_empty_tensor_of_numbers_beyond_all_others(tmp_path):
    content = {"x": tensor("0", (0, 2), (1 << 62, 1))}
    (found,) = load_checkpoint(write(tmp_path / "a.pth", content, {"0": np.zeros(4, np.float32)})).values()
    with pytest.raises(WeightsFileError, match="reaches outside its storage"):
        found.array()
