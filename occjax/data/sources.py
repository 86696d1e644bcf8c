"""Samples of a split as recorded: one set of readers over the bytes of nuScenes' own files or of packed records."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from occjax.config import DataConfig
from occjax.data.file_store import FileStore
from occjax.data.files import absent_files, label_files
from occjax.data.images import draw_image
from occjax.data.index import SplitIndex
from occjax.data.lidar import points_from_bytes
from occjax.data.parts import LABELS, LIDAR, TEACHER, Parts, StoredSample
from occjax.data.record_store import RecordStore
from occjax.errors import DataError, SampleError
from occjax.label_sets import label_set
from occjax.types import TeacherTargets


class SampleSource:
    """All samples of a split.

    Attributes:
      data: cameras, label set and where things lie.
      split: its keyframes.
      parts: what each sample holds.
      store: where the bytes are.
    """

    def __init__(self, data: DataConfig, split: SplitIndex, parts: Parts, store: FileStore | RecordStore):
        self.data, self.split, self.parts, self.store = data, split, parts, store
        self.label_set = label_set(data.labels)

    def open(self, row: int) -> "SampleParts":
        """The sample in row `row` of the split; raises SampleError where it is not there."""
        return SampleParts(self, row, self.store.open(row))


class SampleParts:
    """One sample, as recorded: without augmentation, labels and teacher on the grids of their files.

    Every method raises SampleError, which names file and sample token, when the part cannot be read.
    """

    def __init__(self, source: SampleSource, row: int, stored: StoredSample):
        self._source, self._row, self._stored = source, row, stored

    def draw_image(
        self, channel: str, input_from_pixel: Float[np.ndarray, "3 3"], out: UInt8[np.ndarray, "h w 3"]
    ) -> None:
        """Draws a camera's image into `out`; see `occjax.data.images.draw_image`."""
        split = self._source.split
        size = split.camera_size[self._row, split.cameras.index(channel)]
        self._decode(channel, draw_image, size, input_from_pixel, out)

    def points(self) -> Float[np.ndarray, "p 3"]:
        """LiDAR points, LIDAR_TOP frame, metres."""
        return self._decode(LIDAR, points_from_bytes)

    def labels(self) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 classes [X, Y, Z], and bool camera mask [X, Y, Z] or None."""
        return self._decode(LABELS, self._source.label_set.decode)

    def teacher(self) -> TeacherTargets:
        """Unbatched targets; only where the source has a teacher."""
        teacher = self._source.parts.teacher
        assert teacher is not None
        return self._decode(TEACHER, teacher.decode, self._token, f"teacher file {self._stored.where(TEACHER)}")

    @property
    def _token(self) -> str:
        return self._source.split.tokens[self._row]

    def _decode(self, kind: str, decode: Callable, *arguments: Any) -> Any:
        try:
            return decode(self._stored.read(kind), *arguments)
        # It names file, token and remedy already.
        except SampleError:
            raise
        except (DataError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SampleError(
                f"cannot read {self._stored.where(kind)} of sample {self._token}: {reason}; {self._stored.remedy(kind)}"
            ) from error


def open_source(data: DataConfig, split: SplitIndex, parts: Parts) -> SampleSource:
    """The configured source of a split: records where `data.records_dir` is set, else files.

    Raises:
      DataError: the records do not hold what is wanted.
    """
    store = RecordStore if data.records_dir else FileStore
    return SampleSource(data, split, parts, store(data, split, parts))


def unlabelled_rows(data: DataConfig, split: SplitIndex) -> list[int]:
    """Rows of a split without labels of the configured set, in files or records: nothing there can be scored."""
    if data.records_dir:
        labelled = RecordStore(data, split, Parts()).labelled
        return [row for row, token in enumerate(split.tokens) if token not in labelled]
    return absent_files(label_files(split, label_set(data.labels), data))
