"""The teacher that a configuration names, opened for the loaders: a folder of files, or what records hold of one."""

import logging
from pathlib import Path

from occjax.config import AugmentConfig, Config
from occjax.data.augment import augments_bev
from occjax.data.parts import TEACHER
from occjax.data.records import packing_command, read_shards
from occjax.errors import DataError
from occjax.grid import GridMismatchError, VoxelGrid
from occjax.targets.folder import TeacherFolder, TeacherLayout

_log = logging.getLogger(__name__)


class NothingPackedError(DataError):
    """Records hold no teacher."""


class PackedTeacher(TeacherLayout):
    """The teacher in a folder of records (`occjax pack`)."""

    def __init__(self, folder: Path, grid: VoxelGrid, *, capacity_factor: float):
        """Reads the manifests of all shards; arguments as for `TeacherFolder`.

        Raises:
          NothingPackedError: no shard holds a teacher.
          DataError: they hold different ones, or are no records.
          GridMismatchError: the model's grid is no aligned crop of the teacher's.
        """
        self._folder = folder
        # Some shards may have been packed without: what they lack, `missing` names.
        shards = [shard for shard in read_shards(folder) if shard.facts[TEACHER]]
        self._paths = {token: shard.path for shard in shards for token in shard.tokens}
        if not shards:
            raise NothingPackedError(
                f"the records in {folder} hold no teacher; pack them again, into another folder, where "
                f"data.teacher_dir has one: {packing_command('<another folder>')}"
            )
        # All targets of a run have one shape, which the manifest fixes before a file is read.
        manifest = shards[0].facts[TEACHER]
        if any(shard.facts[TEACHER] != manifest for shard in shards):
            raise DataError(
                f"the shards in {folder} were packed with different teachers; pack them again, into another folder: "
                f"{packing_command('<another folder>')}"
            )
        try:
            super().__init__(manifest, grid, capacity_factor=capacity_factor)
        except GridMismatchError as error:
            raise GridMismatchError(f"the teacher in the records in {folder}: {error}") from error

    def path(self, token: str) -> Path:
        """The shard with the targets of a sample."""
        return self._paths[token]

    def missing(self, tokens: list[str]) -> list[str]:
        """The tokens that were packed without teacher, or not at all, in the order given."""
        return [token for token in tokens if token not in self._paths]

    def completing_command(self) -> str:
        """The command line that adds what the records lack."""
        return packing_command(self._folder)


def open_teacher(config: Config) -> TeacherFolder | PackedTeacher:
    """The teacher of `data.teacher_dir`, or of the records where `data.records_dir` is set.

    Args:
      config: data section, grid; the augmentation's largest scale gives the room for teacher voxels.

    Raises:
      TeacherFileError or DataError: no teacher is there, or one of another kind.
      GridMismatchError: the model's grid is no aligned crop of the teacher's.
    """
    data, grid, room = config.data, config.grid.build(), _capacity_factor(config.augment)
    if data.records_dir:
        return PackedTeacher(Path(data.records_dir), grid, capacity_factor=room)
    return TeacherFolder(Path(data.teacher_dir), grid, data=data, capacity_factor=room)


def complete_teacher(config: Config, split: str, tokens: list[str]) -> TeacherFolder | PackedTeacher | None:
    """The teacher where it knows all of these samples, else None: for whoever can do without it.

    Args:
      config: as for `open_teacher`.
      split: name of what the samples are, for the log.
      tokens: of the samples.

    Raises:
      As `open_teacher`, where there is a folder.
    """
    folder = config.data.records_dir or config.data.teacher_dir
    if not config.data.teacher_dir:
        return None
    # Imported weights, and checkpoints that moved, come without the teacher that their configuration names.
    if not Path(folder).is_dir():
        _log.info("split %s goes without teacher: no folder %s", split, folder)
        return None
    try:
        teacher = open_teacher(config)
    except NothingPackedError:
        _log.info("split %s goes without teacher: the records in %s hold none", split, folder)
        return None
    absent = teacher.missing(tokens)
    if absent:
        _log.info("split %s goes without teacher: %d of %d samples have no targets", split, len(absent), len(tokens))
        return None
    return teacher


def _capacity_factor(augment: AugmentConfig) -> float:
    """Room for teacher voxels that BEV augmentation adds, relative to the largest count of the folder."""
    # Enlarging by s repeats a voxel s³ times; nearest-voxel rotation adds a few per cent.
    return max(1.25, 1.1 * max(augment.bev_scale) ** 3) if augments_bev(augment) else 1.0
