"""Bytes per sample on disk; records take as many as the files that they are made of."""

import numpy as np

from occjax.config import DataConfig
from occjax.data.files import FileSet, camera_files, file_sizes, label_files, lidar_files, teacher_files
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.record_store import RecordStore
from occjax.label_sets import label_set

# The mean of so many is within a few per cent; all of them would take minutes on a network file system.
_SAMPLES = 200


def bytes_on_disk(data: DataConfig, split: SplitIndex, parts: Parts) -> dict[str, float]:
    """Mean bytes per sample of "images", "LiDAR", "labels" and "teacher" files, over samples spread over the split.

    Of "records" instead where `data.records_dir` is set.
    """
    if data.records_dir:
        shards = RecordStore(data, split, parts).shards
        return {"records": sum(shard.size_bytes for shard in shards) / sum(len(shard.tokens) for shard in shards)}
    rows = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int))
    some = split.take(split.name, rows)
    sizes = {"images": sum(_mean(camera_files(some, channel)) for channel in data.cameras if channel in split.cameras)}
    if parts.lidar:
        sizes["LiDAR"] = _mean(lidar_files(some))
    if parts.labels:
        sizes["labels"] = _mean(label_files(some, label_set(data.labels), data))
    if parts.teacher:
        sizes["teacher"] = _mean(teacher_files(some, parts.teacher))
    return sizes


def _mean(files: FileSet) -> float:
    present = [size for size in file_sizes(files) if size >= 0]
    return float(np.mean(present)) if present else 0.0
