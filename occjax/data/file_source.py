"""Samples from nuScenes' files, and from the folders of labels and of the teacher."""

from pathlib import Path

import numpy as np

from occjax.config import Config
from occjax.data.files import camera_files, label_files, labels_folder, lidar_files, require_files
from occjax.data.images import read_image
from occjax.data.index import SplitIndex
from occjax.data.lidar import read_points
from occjax.errors import DataError, SampleError
from occjax.label_sets import label_set
from occjax.targets.folder import TeacherFolder
from occjax.types import TeacherTargets


class FileSource:
    """`occjax.data.sources.SampleSource` over files."""

    def __init__(self, config: Config, split: SplitIndex, teacher: TeacherFolder | None):
        self.teacher = teacher
        self.split = split
        self.label_set = label_set(config.data.labels)
        self.labels_folder = labels_folder(self.label_set, config.data)
        self._config = config

    def open(self, row: int) -> "FileParts":
        return FileParts(self, row)

    def require_complete(self) -> None:
        data, split = self._config.data, self.split
        files = [camera_files(split, channel) for channel in data.cameras if channel in split.cameras]
        files += [lidar_files(split)] if self._config.loss.depth > 0 else []
        require_files(split, [*files, label_files(split, self.label_set, data)], self.teacher)

    def without_teacher(self, tokens: list[str]) -> list[str]:
        return self.teacher.missing(tokens) if self.teacher else list(tokens)


class FileParts:
    """`occjax.data.sources.SampleParts` of one row of a FileSource."""

    def __init__(self, source: FileSource, row: int):
        self._source, self._split, self._row = source, source.split, row

    def draw_image(self, channel: str, input_from_pixel: np.ndarray, out: np.ndarray) -> None:
        column = self._split.cameras.index(channel)
        path = self._split.root / self._split.camera_file[self._row, column].decode()
        size = self._split.camera_size[self._row, column]
        self._read(path, read_image, path, size, input_from_pixel, out)

    def points(self) -> np.ndarray:
        path = self._split.root / self._split.lidar_file[self._row].decode()
        return self._read(path, read_points, path)

    def labels(self) -> tuple[np.ndarray, np.ndarray | None]:
        path = self._source.label_set.path(
            self._source.labels_folder,
            lidar_file=self._split.lidar_file[self._row].decode(),
            scene_name=self._split.scene_names[self._row],
            token=self._split.tokens[self._row],
        )
        return self._read(path, self._source.label_set.read, path)

    def teacher(self) -> TeacherTargets:
        return self._source.teacher.read(self._split.tokens[self._row])

    def _read(self, path: Path, read, *arguments):
        try:
            return read(*arguments)
        except (DataError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SampleError(
                f"cannot read {path} of sample {self._split.tokens[self._row]}: {reason}; copy or convert the file "
                "again"
            ) from error
