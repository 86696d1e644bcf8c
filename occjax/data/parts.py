"""Parts of a sample: which of them a reader wants beside the images, where their bytes are, and a teacher's reader."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from occjax.grid import VoxelGrid
from occjax.grid_map import GridMap
from occjax.types import TeacherTargets

# Kinds of bytes that a sample consists of; a camera's image is called by its channel.
# They are the keys inside records too: renaming one makes records unreadable.
LIDAR, LABELS, TEACHER = "lidar", "labels", "teacher"


# A protocol, since the teacher stands above: `targets` may import `data`, not the other way about.
@runtime_checkable
class TeacherReader(Protocol):
    """A teacher as the loaders see it: `occjax.targets.reader.open_teacher` gives one.

    Attributes:
      manifest: what its files have in common.
      grid: that they lie on.
    """

    manifest: dict
    grid: VoxelGrid

    def path(self, token: str) -> Path:
        """The file with the targets of a sample."""

    def missing(self, tokens: list[str]) -> list[str]:
        """The tokens that it knows nothing about, in the order given."""

    def completing_command(self) -> str:
        """The command line that adds what is missing."""

    def decode(self, data: bytes, token: str, where: str) -> TeacherTargets:
        """Unbatched targets on `grid` from a file's bytes; raises SampleError, which says `where` they are from."""

    def gather(self, targets: TeacherTargets, grid_map: GridMap) -> TeacherTargets:
        """Targets moved from `grid` to the model's; `grid_map` is from the grid that has the file's voxel size."""


class Parts(NamedTuple):
    """What a sample holds beside images and rig; whoever runs the loaders decides, no loss weight does.

    Attributes:
      lidar: LiDAR sweeps, as depth maps.
      labels: ground truth of the configured label set.
      teacher: the teacher's targets, read by this; None = none.
    """

    lidar: bool = False
    labels: bool = False
    teacher: TeacherReader | None = None


# Bytes and not paths: files and records then share every reader, and a read has one place that can fail.
class StoredSample(NamedTuple):
    """The bytes of one sample, by kind.

    Attributes:
      read: those of a whole file; raises OSError or DataError.
      where: names their place, for errors.
      remedy: says what mends them.
    """

    read: Callable[[str], bytes]
    where: Callable[[str], str]
    remedy: Callable[[str], str]
