"""Samples from packed records: one read per sample, at any place of any shard."""

from pathlib import Path

import cv2
import numpy as np

from occjax.config import Config
from occjax.data.augment import plain_resize
from occjax.data.index import SplitIndex
from occjax.data.record_folder import read_shards, require_fit
from occjax.data.records import Record, decode_record, unfilter_image
from occjax.errors import DataError, SampleError
from occjax.grid import GridMismatchError
from occjax.targets.folder import TeacherLayout
from occjax.types import TeacherTargets


class RecordSource:
    """`occjax.data.sources.SampleSource` over the folder `config.data.records_dir`, which may hold several splits.

    Augmented images are drawn from the packed, resized ones, so they differ a little from those drawn from files;
    everything else, and every image without augmentation, is the same bit for bit.
    """

    def __init__(self, config: Config, split: SplitIndex, *, with_teacher: bool, capacity_factor: float):
        """Reads the manifests and checks those of the shards that hold samples of the split.

        Raises:
          DataError: no shards, or shards that do not fit the configuration or each other.
          GridMismatchError: the model's grid is no aligned crop of the teacher's.
        """
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.folder = Path(config.data.records_dir)
        wanted = set(split.tokens)
        self.shards = [s for s in read_shards(self.folder) if not wanted.isdisjoint(s.tokens)]
        for shard in self.shards:
            require_fit(shard, config)
        self._split = split
        self._input_size = (config.data.image_width, config.data.image_height)
        packed = [token for shard in self.shards for token in shard.tokens]
        self._position = {token: position for position, token in enumerate(packed)}
        # With [first:last], files are opened when they are first read, in the process that reads them.
        paths = [f"{shard.path}[0:{len(shard.tokens)}]" for shard in self.shards]
        self._records = ArrayRecordDataSource(paths) if paths else None
        self._paths = [shard.path for shard in self.shards for _ in shard.tokens]
        teachers = [shard.facts["teacher"] for shard in self.shards]
        self.teacher = None
        if with_teacher and any(teachers):
            described = next(teacher for teacher in teachers if teacher)
            if any(teacher not in (None, described) for teacher in teachers):
                raise DataError(
                    f"the shards in {self.folder} were packed with different teachers; pack them again into a new "
                    "folder"
                )
            try:
                self.teacher = TeacherLayout(described, config.grid.build(), capacity_factor=capacity_factor)
            except GridMismatchError as error:
                raise GridMismatchError(f"the teacher in the records in {self.folder}: {error}") from error
        self._wants_teacher = with_teacher
        self._with_teacher = {token for shard in self.shards if shard.facts["teacher"] for token in shard.tokens}

    def open(self, row: int) -> "RecordParts":
        token = self._split.tokens[row]
        position = self._position.get(token)
        if position is None:
            raise SampleError(f"sample {token} is not in the records in {self.folder}; {_pack(self.folder)}")
        path = self._paths[position]
        try:
            record = decode_record(self._records[position], None if self.teacher is None else self.teacher.grid)
        except (DataError, RuntimeError) as error:  # ArrayRecord knows no other error than RuntimeError
            raise SampleError(
                f"cannot read the record of sample {token} in {path}: {error}; delete {path.with_suffix('.json')} and "
                "run converters/pack.py again"
            ) from error
        if record.token != token:
            raise SampleError(
                f"the record of sample {token} in {path} holds sample {record.token}: shard and manifest do not belong "
                f"together; delete {path.with_suffix('.json')} and run converters/pack.py again"
            )
        return RecordParts(self, record, row, path)

    def require_complete(self) -> None:
        tokens = self._split.tokens
        for what, absent in (
            ("samples", [token for token in tokens if token not in self._position]),
            ("teacher targets", self.without_teacher(tokens) if self._wants_teacher else []),
        ):
            if absent:
                more = ", ..." if len(absent) > 5 else ""
                raise DataError(
                    f"records in {self.folder} lack {len(absent)} of {len(tokens)} {what} of split {self._split.name}, "
                    f"tokens {', '.join(absent[:5])}{more}; {_pack(self.folder)}"
                )

    def without_teacher(self, tokens: list[str]) -> list[str]:
        return [token for token in tokens if token not in self._with_teacher]

    def draw(self, image: np.ndarray, size: np.ndarray, input_from_pixel: np.ndarray, out: np.ndarray) -> None:
        """Draws a packed image, recorded at `size` (width, height), through `input_from_pixel` into `out`."""
        augmentation = input_from_pixel @ np.linalg.inv(plain_resize(size, self._input_size))
        if np.allclose(augmentation, np.eye(3), rtol=0, atol=1e-6):
            unfilter_image(image, out)
            return
        resized = np.empty_like(image)
        unfilter_image(image, resized)
        # OpenCV puts pixel centres at integers, the matrix at half-integers.
        to_half, from_half = np.eye(3), np.eye(3)
        to_half[:2, 2], from_half[:2, 2] = 0.5, -0.5
        matrix = (from_half @ augmentation @ to_half)[:2]
        cv2.warpAffine(
            resized, matrix, self._input_size, dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )

    def size_of(self, row: int, channel: str) -> np.ndarray:
        """Recorded width and height of a camera's image, pixels."""
        return self._split.camera_size[row, self._split.cameras.index(channel)]


class RecordParts:
    """`occjax.data.sources.SampleParts` of one record."""

    def __init__(self, source: RecordSource, record: Record, row: int, path: Path):
        self._source, self._record, self._row, self._path = source, record, row, path

    def draw_image(self, channel: str, input_from_pixel: np.ndarray, out: np.ndarray) -> None:
        image = self._record.images.get(channel)
        if image is None:
            raise self._lack(f"image of {channel}")
        self._source.draw(image, self._source.size_of(self._row, channel), input_from_pixel, out)

    def points(self) -> np.ndarray:
        if self._record.points is None:
            raise self._lack("LiDAR points")
        return self._record.points

    def labels(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self._record.semantics, self._record.camera_mask

    def teacher(self) -> TeacherTargets:
        if self._record.teacher is None:
            raise self._lack("teacher codes")
        return self._source.teacher.targets(self._record.teacher, f"record {self._record.token} in {self._path}")

    def _lack(self, what: str) -> SampleError:
        return SampleError(
            f"the record of sample {self._record.token} in {self._path} holds no {what}; {_pack(self._path.parent)}"
        )


def _pack(folder: Path) -> str:
    return f"pack them with python converters/pack.py --config=... --output={folder}"
