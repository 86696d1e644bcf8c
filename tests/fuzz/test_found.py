"""What the fuzzer found: one small input of every kind, made here, and refused in words since."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from fuzz_npz import bomb, npy
from nuscenes_root import write_root
from teacher_folder import GRID, write_folder

from occjax.config import Config, DataConfig
from occjax.config_checks import problems
from occjax.convert.dump.arrays import DumpError, read_dump_array
from occjax.data.index import load_index
from occjax.data.records import LABELS, LIDAR, TEACHER, decode_record, read_shard
from occjax.errors import DataError
from occjax.metrics.confusion import ScoringError
from occjax.metrics.prediction_files import read_prediction
from occjax.npz import ArrayFileError, read_npz
from occjax.run_config import WorkdirError, load_config
from occjax.targets.folder import TeacherFileError, TeacherFolder


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
