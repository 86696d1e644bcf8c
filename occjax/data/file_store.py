"""Bytes of samples from nuScenes' files, and from the folders of labels and of the teacher."""

from pathlib import Path

from occjax.config import DataConfig
from occjax.data.files import camera_files, label_files, label_path, labels_folder, lidar_files, require_files
from occjax.data.index import SplitIndex
from occjax.data.parts import LABELS, LIDAR, TEACHER, Parts, StoredSample
from occjax.label_sets import label_set


class FileStore:
    """`occjax.data.sources.SampleStore` over files."""

    def __init__(self, data: DataConfig, split: SplitIndex, parts: Parts):
        self._data, self._split, self._parts = data, split, parts
        self._label_set = label_set(data.labels)
        self._labels_folder = labels_folder(self._label_set, data)

    def open(self, row: int) -> StoredSample:
        return StoredSample(
            read=lambda kind: self._path(row, kind).read_bytes(),
            where=lambda kind: str(self._path(row, kind)),
            remedy=self._remedy,
        )

    def _path(self, row: int, kind: str) -> Path:
        split = self._split
        if kind == LABELS:
            return label_path(split, row, self._label_set, self._labels_folder)
        if kind == TEACHER:
            return self._parts.teacher.path(split.tokens[row])
        name = split.lidar_file[row] if kind == LIDAR else split.camera_file[row, split.cameras.index(kind)]
        return split.root / name.decode()

    def _remedy(self, kind: str) -> str:
        if kind == TEACHER:
            return f"delete it and run {self._parts.teacher.completing_command()}"
        return "copy or convert the file again"

    def require_complete(self) -> None:
        data, split, parts = self._data, self._split, self._parts
        files = [camera_files(split, channel) for channel in data.cameras if channel in split.cameras]
        files += [lidar_files(split)] if parts.lidar else []
        files += [label_files(split, self._label_set, data)] if parts.labels else []
        require_files(split, files, parts.teacher)
