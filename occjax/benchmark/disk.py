"""Bytes per sample on disk, as files and as records."""

import tempfile
from pathlib import Path

import numpy as np

from occjax.config import Config
from occjax.convert.pack import read_record
from occjax.data.files import FileSet, camera_files, file_sizes, label_files, lidar_files
from occjax.data.index import SplitIndex
from occjax.data.record_folder import make_facts, write_shard
from occjax.data.records import encode_record
from occjax.data.sources import open_source

_SAMPLES = 200


def bytes_on_disk(config: Config, split: SplitIndex, *, with_teacher: bool) -> dict[str, float]:
    """Mean bytes per sample of "images", "LiDAR", "labels" and "teacher" files, over samples spread over the split."""
    data = config.data
    rows = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int))
    some = split.take(split.name, rows)
    sizes = {
        "images": sum(_mean(camera_files(some, channel)) for channel in data.cameras if channel in split.cameras),
        "LiDAR": _mean(lidar_files(some)) if config.loss.depth > 0 else 0.0,
        "labels": _mean(label_files(some, label_set(data.labels), data)),
    }
    if with_teacher:
        folder = Path(data.teacher_dir)
        sizes["teacher"] = _mean(FileSet("", some.tokens, [str(folder / f"{t}.npz") for t in some.tokens], ""))
    return sizes


def record_bytes(config: Config, split: SplitIndex, *, with_teacher: bool) -> float:
    """Mean bytes of a record, from a few that are packed for it."""
    source = open_source(config, split, with_teacher=with_teacher)
    rows = np.unique(np.linspace(0, len(split) - 1, 4).astype(int)).tolist()
    with tempfile.TemporaryDirectory(prefix="occjax-records-") as folder:
        records = (encode_record(read_record(config, source, row)) for row in rows)
        tokens = [split.tokens[row] for row in rows]
        return write_shard(Path(folder), "some", make_facts(config, source.teacher), tokens, records) / len(rows)


def _mean(files: FileSet) -> float:
    present = [size for size in file_sizes(files) if size >= 0]
    return float(np.mean(present)) if present else 0.0
