"""Where the parts of a sample come from, nuScenes' own files or packed records: the seam that readers see."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from occjax.config import AugmentConfig, Config
from occjax.data.file_source import FileSource
from occjax.data.index import SplitIndex
from occjax.data.record_source import RecordSource
from occjax.targets.folder import TeacherFolder, TeacherLayout
from occjax.types import TeacherTargets


@runtime_checkable
class SampleParts(Protocol):
    """One sample, as recorded: without augmentation, labels and teacher on the grids of their files.

    Every method raises SampleError, which names the file and the sample token, when the part cannot be read.
    """

    def draw_image(
        self, channel: str, input_from_pixel: Float[np.ndarray, "3 3"], out: UInt8[np.ndarray, "h w 3"]
    ) -> None:
        """Draws a camera's image into `out`; see `occjax.data.images.read_image`."""

    def points(self) -> Float[np.ndarray, "p 3"]:
        """LiDAR points, LIDAR_TOP frame, metres."""

    def labels(self) -> tuple[np.ndarray, np.ndarray | None]:
        """uint8 classes [X, Y, Z], and bool camera mask [X, Y, Z] or None."""

    def teacher(self) -> TeacherTargets:
        """Unbatched targets; only where the source has a teacher."""


@runtime_checkable
class SampleSource(Protocol):
    """All samples of a split; it can be pickled, and opens no file before a sample is asked for.

    Attributes:
      teacher: what its teacher targets have in common, or None.
    """

    teacher: TeacherLayout | None

    def open(self, row: int) -> SampleParts:
        """The sample in row `row` of the split."""

    def require_complete(self) -> None:
        """Raises DataError counting the samples of the split that lack a part, with the first five tokens."""

    def without_teacher(self, tokens: list[str]) -> list[str]:
        """The tokens that have no teacher targets, in the order given."""


def open_source(config: Config, split: SplitIndex, *, with_teacher: bool) -> SampleSource:
    """The configured source of a split: records where `data.records_dir` is set, else files.

    Args:
      config: data section, grid; the augmentation's largest scale gives the room for teacher voxels.
      split: keyframes.
      with_teacher: read the teacher too.

    Raises:
      DataError: the records do not fit the configuration.
      TeacherFileError: no teacher is there, or one of another kind.
      GridMismatchError: the model's grid is no aligned crop of the teacher's.
    """
    room = capacity_factor(config.augment)
    if config.data.records_dir:
        return RecordSource(config, split, with_teacher=with_teacher, capacity_factor=room)
    teacher = None
    if with_teacher:
        teacher = TeacherFolder(
            Path(config.data.teacher_dir), config.grid.build(), data=config.data, capacity_factor=room
        )
    return FileSource(config, split, teacher)


def augments_bev(augment: AugmentConfig) -> bool:
    """Whether any BEV augmentation is configured."""
    return bool(
        augment.bev_rotate_deg or tuple(augment.bev_scale) != (1.0, 1.0) or augment.bev_flip_x or augment.bev_flip_y
    )


def capacity_factor(augment: AugmentConfig) -> float:
    """Room for teacher voxels that BEV augmentation adds, relative to the largest count of the folder."""
    # Enlarging by s repeats a voxel s³ times; nearest-voxel rotation adds a few per cent.
    return max(1.25, 1.1 * max(augment.bev_scale) ** 3) if augments_bev(augment) else 1.0
