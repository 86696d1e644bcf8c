"""Everything that the project reads: a sane file of each kind, how it is mutated, and its reader."""

import dataclasses
import io
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fuzz_formats as formats
import numpy as np
from fuzz_bytes import mutate_bytes, mutate_json
from fuzz_npz import mutate_npy, mutate_npz, npy
from fuzz_runs import of_runs
from nuscenes_root import sweep, write_root
from teacher_folder import GRID, write_folder

from occjax.config import Config, DataConfig
from occjax.config_checks import problems
from occjax.convert.dump.arrays import read_dump_array
from occjax.convert.dump.info_pickle import tokens_in_order
from occjax.convert.torch_weights import read_state_dict
from occjax.data.augment import plain_resize
from occjax.data.images import draw_image
from occjax.data.index import load_index
from occjax.data.lidar import points_from_bytes
from occjax.data.parts import Parts
from occjax.data.record_store import RecordStore
from occjax.data.records import decode_record, encode_record, make_facts, read_shards, write_shard
from occjax.grid import OCC3D_GRID
from occjax.label_sets import LABEL_SETS
from occjax.metrics.prediction_files import read_prediction
from occjax.run.overrides import apply_overrides
from occjax.run_config import load_config
from occjax.targets.facts import read_facts
from occjax.targets.folder import TeacherFolder


@dataclasses.dataclass
class Target:
    """A kind of input.

    Attributes:
      sane: its bytes.
      mutate: other bytes, from these and a source of randomness.
      read: reads bytes, from `path` where it needs a file; raises an error of `occjax.errors` or nothing.
      path: where it lies, below the folder of the run.
      may_write: whether reading may leave files behind, whole ones.
    """

    sane: bytes
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[bytes], Any]
    path: Path | None = None
    may_write: bool = False


def make_targets(folder: Path) -> dict[str, Target]:
    """All kinds by name; their files are written below `folder`."""
    found = {**_samples(), **_tables(folder), **_teacher(folder), **_records(folder), **_weights(folder)}
    return {**found, **_others(folder), **of_runs(folder, _file)}


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _samples() -> dict[str, Target]:
    r = np.random.default_rng(0)
    dense = np.where(r.random(OCC3D_GRID.shape) < 0.9, 17, r.integers(0, 17, OCC3D_GRID.shape)).astype(np.uint8)
    voxels = np.stack([r.integers(0, n, 500) for n in (200, 200, 16, 17)], axis=1)
    image = cv2.resize(r.integers(0, 255, (45, 80, 3), np.uint8), (320, 180))
    jpeg, progressive, png = (
        cv2.imencode(suffix, image, options)[1].tobytes()
        for suffix, options in ((".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), (".png", []))
    )
    size, out = np.array([320, 180]), np.zeros((96, 176, 3), np.uint8)

    def draw(data: bytes) -> None:
        draw_image(data, size, plain_resize(size, (176, 96)), out)

    return {
        "labels of Occ3D": Target(_npz(semantics=dense, mask_camera=dense % 2), mutate_npz, LABEL_SETS["occ3d"].decode),
        "labels of SurroundOcc": Target(npy(voxels), mutate_npy, LABEL_SETS["surroundocc"].decode),
        "JPEG": Target(jpeg, formats.mutate_jpeg, draw),
        "progressive JPEG": Target(progressive, formats.mutate_jpeg, draw),
        "PNG": Target(png, formats.mutate_png, draw),
        "sweep": Target(sweep("scene-0061", 0).tobytes(), formats.mutate_sweep, points_from_bytes),
    }


def _file(path: Path, mutate: Callable, read: Callable[[], Any], **options: bool) -> Target:
    """A file in its place, which is put back after every case."""

    def from_file(data: bytes) -> Any:
        path.write_bytes(data)
        return read()

    return Target(path.read_bytes(), mutate, from_file, path, **options)


def _tables(folder: Path) -> dict[str, Target]:
    root = write_root(folder / "nuscenes", scenes={"scene-0061": 2, "scene-0003": 1})
    (root / "splits.json").write_text(json.dumps({"train": ["scene-0061"], "val": ["scene-0003"]}))
    cached = DataConfig(root=str(root))
    cache = root / "occjax_index/v1.0-trainval.npz"

    def load() -> None:
        # A cache that nobody can write, so that the tables are read every time.
        load_index(dataclasses.replace(cached, index_dir="/dev/null/none")).split("train")

    load_index(cached)
    found = {
        f"{name}.json": _file(root / f"v1.0-trainval/{name}.json", mutate_json, load)
        for name in ("sample", "sample_data", "scene", "ego_pose", "calibrated_sensor", "sensor")
    }
    # Times are in the fingerprint: the cache has to be written anew, as the tables were.
    found["index cache"] = _file(cache, mutate_npz, lambda: load_index(cached).split("train"), may_write=True)
    found["splits.json"] = _file(
        root / "splits.json", mutate_json, lambda: load_index(cached).split("train"), may_write=True
    )
    return found


def _teacher(folder: Path) -> dict[str, Target]:
    found = {}
    for name, options in (("compact", {}), ("dense", {"form": "dense"}), ("map", {"bev_only": True})):
        teacher = write_folder(folder / name, **options)

        def read(teacher: Path = teacher) -> None:
            read_facts(teacher / "a.npz")
            TeacherFolder(teacher, GRID).read("a")

        found[f"teacher file, {name}"] = _file(teacher / "a.npz", mutate_npz, read)
    found["teacher manifest"] = _file(folder / "compact/manifest.json", mutate_json, lambda: _whole_folder(folder))
    return found


def _whole_folder(folder: Path) -> None:
    teacher = TeacherFolder(folder / "compact", GRID)
    teacher.read("a")
    teacher.completing_command()


def _records(folder: Path) -> dict[str, Target]:
    data = DataConfig(cameras=("CAM_FRONT",), records_dir=str(folder / "records"), root=str(folder / "nuscenes"))
    split = load_index(data).split("train")
    (folder / "records").mkdir()
    records = [encode_record(token, {"CAM_FRONT": bytes(2000), "labels": b"l" * 100}) for token in split.tokens]
    facts = make_facts(data, Parts(labels=True))
    write_shard(folder / "records", "train-00000-of-00001", facts, split.tokens, records)

    def read() -> None:
        read_shards(folder / "records")
        RecordStore(data, split, Parts(labels=True)).open(0).read("labels")

    return {
        "record": Target(records[0], formats.mutate_headed, decode_record),
        "shard": _file(folder / "records/train-00000-of-00001.array_record", mutate_bytes, read),
        "shard manifest": _file(folder / "records/train-00000-of-00001.json", mutate_json, read),
    }


def _weights(folder: Path) -> dict[str, Target]:
    scratch, found = folder / "weights", {}
    scratch.mkdir()

    def arrays(path: Path) -> None:
        for value in read_state_dict(path, None).values():
            np.asarray(value.array() if hasattr(value, "array") else value)

    for name, legacy in (("checkpoint of PyTorch", False), ("checkpoint of old PyTorch", True)):
        path = scratch / f"{legacy}.pth"
        formats.weights(None, path, legacy)

        def mutate(data: bytes, r: random.Random, path: Path = path) -> bytes:
            return formats.mutate_weights(data, r, path)

        found[name] = _file(path, mutate, lambda path=path: arrays(path))
    header = {n: {"dtype": "F32", "shape": [2, 3], "data_offsets": [24 * i, 24 * i + 24]} for i, n in enumerate("ab")}
    text = json.dumps(header).encode()
    path = scratch / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(48))
    found["safetensors"] = _file(path, formats.mutate_headed, lambda path=path: arrays(path))
    return found


def _others(folder: Path) -> dict[str, Target]:
    scratch = folder / "others"
    scratch.mkdir()
    r = np.random.default_rng(0)
    scores = r.random((18, 6, 5, 4)).astype(np.float32)
    for name, content in {
        "info.pkl": pickle.dumps(
            {"infos": {"s": [{"token": "a", "timestamp": np.float64(1), "matrix": np.eye(4)}]}, "metadata": [("s", 0)]}
        ),
        "dump.npz": _npz(pred_occ=scores, token=np.array("a")),
        "dump.npy": npy(scores),
        "prediction.npz": _npz(semantics=scores.argmax(0).astype(np.uint8), grid=np.array(json.dumps(GRID.to_dict()))),
        "config.json": json.dumps({"config": Config().to_dict()}).encode(),
    }.items():
        (scratch / name).write_bytes(content)
    overrides = [
        f"--config.{path}=1"
        for path in (
            *(
                "name",
                "grid.frame",
                "grid.lower_m",
                "grid.voxel_size_m",
                "grid.shape",
                "data.cameras",
                "data.batch_size",
            ),
            *(
                "data.labels",
                "augment.image_scale",
                "model.backbone.depth",
                "model.bev_encoder.stage_channels",
                "loss.depth",
            ),
            *("train.learning_rate", "train.steps", "eval.weights", "data.on_error", "data", "loss.distill"),
        )
    ]

    def override(data: bytes) -> None:
        problems(apply_overrides(Config(), json.loads(data)))

    return {
        "info pickle": _file(scratch / "info.pkl", formats.mutate_info, lambda: tokens_in_order(scratch / "info.pkl")),
        "dump .npz": _file(scratch / "dump.npz", mutate_npz, lambda: read_dump_array(scratch / "dump.npz")),
        "dump .npy": _file(scratch / "dump.npy", mutate_npy, lambda: read_dump_array(scratch / "dump.npy")),
        "prediction": _file(
            scratch / "prediction.npz", mutate_npz, lambda: read_prediction(scratch / "prediction.npz")
        ),
        "config.json": _file(scratch / "config.json", mutate_json, lambda: problems(load_config(scratch))),
        "override": Target(
            b"[]",
            lambda _, r: json.dumps(formats.mutate_override(overrides, r)).encode(),
            override,
        ),
    }
