"""Bytes of samples from nuScenes' files, and from the folders of labels and of the teacher."""

import os
from pathlib import Path

from occjax.config import DataConfig
from occjax.data.files import label_path, require_files
from occjax.data.index import SplitIndex
from occjax.data.parts import LABELS, LIDAR, TEACHER, Parts, StoredSample
from occjax.errors import DataError
from occjax.label_sets import label_set

_LARGEST_FILE = 1 << 28  # bytes; dense scores of a teacher have 30 MB


class FileStore:
    """Where the bytes of a split lie, in files; it can be pickled, and opens none before a sample is asked for."""

    def __init__(self, data: DataConfig, split: SplitIndex, parts: Parts):
        self._data, self._split, self._parts = data, split, parts

    def open(self, row: int) -> StoredSample:
        """The sample in row `row` of the split."""
        # Paths are formed per row: 170,000 of them would weigh more than the index, in every loader process.
        return StoredSample(
            read=lambda kind: _read(self._path(row, kind)),
            where=lambda kind: str(self._path(row, kind)),
            remedy=self._remedy,
        )

    def _path(self, row: int, kind: str) -> Path:
        split = self._split
        if kind == LABELS:
            return label_path(split, row, label_set(self._data.labels), self._data)
        if kind == TEACHER:
            assert self._parts.teacher is not None
            return self._parts.teacher.path(split.tokens[row])
        name = split.lidar_file[row] if kind == LIDAR else split.camera_file[row, split.cameras.index(kind)]
        return split.root / name.decode()

    def _remedy(self, kind: str) -> str:
        if kind == TEACHER:
            assert self._parts.teacher is not None
            return f"delete it and run {self._parts.teacher.completing_command()}"
        # nuScenes and label archives are copied by hand: there is no command to print.
        return "copy or convert the file again"

    def require_complete(self) -> None:
        """Raises DataError counting the samples of the split that lack a file, with the first five tokens."""
        require_files(self._data, self._split, self._parts)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        # Before it is read: in the place of a sweep may lie a film.
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_FILE:
            raise DataError(f"it has {size} bytes, more than any file of a sample ({_LARGEST_FILE})")
        return file.read()
