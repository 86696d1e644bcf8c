"""Folders of teacher files: their manifest, and the targets of a sample as the loss consumes them."""

import json
from pathlib import Path

import numpy as np

from occjax.classes import CLASS_NAMES
from occjax.config import DataConfig
from occjax.errors import DataError
from occjax.grid import GridMismatchError, VoxelGrid
from occjax.grid_map import GridMap
from occjax.pooling import pooling_factor
from occjax.targets.commands import completing_command, dump_command, resampling_command
from occjax.targets.files import (
    MANIFEST_NAME,
    SCHEMA,
    SCHEMA_VERSION,
    CompactTeacher,
    TeacherFileError,
    compact_from_dense,
    read_teacher,
)
from occjax.targets.moving import gather_teacher, pad_rows
from occjax.targets.pooling import pool_teacher
from occjax.types import TeacherTargets


class TeacherLayout:
    """What all files of a teacher folder have in common, and with it their codes as arrays of one shape.

    Attributes:
      manifest: of the folder.
      grid: grid that the files lie on.
      capacity: M, rows per sample: the largest count of the folder times `capacity_factor`.
      has_voxels, has_bev: what the files hold.
    """

    def __init__(self, manifest: dict, grid: VoxelGrid, *, capacity_factor: float = 1.25):
        """Checks the manifest against the model's grid.

        Args:
          manifest: as `read_manifest` returns it.
          grid: the model's grid: an aligned crop of the files' grid, or whole blocks of its voxels.
          capacity_factor: room for BEV augmentation, which repeats voxels when it enlarges: at least the largest
            scale squared.

        Raises:
          DataError: the manifest does not say what files hold.
          GridMismatchError: the model's grid is no aligned crop of the files' grid.
        """
        require_facts(manifest)
        self.manifest = manifest
        self.grid = VoxelGrid.from_dict(manifest["grid"])
        self._model_grid, self._factor = grid, pooling_factor(self.grid, grid)
        # Validity: of files that were resampled, which are not known everywhere.
        self.has_voxels, self.has_bev, self._has_validity = (
            bool(manifest["contents"][name]) for name in ("voxels", "bev", "validity")
        )
        # Multiples of 1024: folders of almost the same count then share a compiled step.
        largest = int(manifest["max_active_voxels"])
        self.capacity = min(int(np.ceil(largest * capacity_factor / 1024)) * 1024, self.grid.num_voxels)

    def decode(self, data: bytes, token: str, where: str) -> TeacherTargets:
        """Targets of one sample from the bytes of its file; `where` names the file in errors.

        Raises:
          DataError: the file is damaged; where it lay knows the remedy.
          TeacherFileError: it was written for another token, or is not as the manifest says.
          GridMismatchError: the file lies on another grid than the manifest says.
        """
        found = read_teacher(data)
        # A swapped file has the right shape and teaches the wrong scene: only its token tells.
        if found.token != token:
            raise TeacherFileError(
                f"{where} of sample {token} was written for sample {found.token}: files were renamed or swapped; "
                "convert the folder again"
            )
        self.grid.require_same(found.grid, where, "convert the folder again with one grid")
        compact = found if isinstance(found, CompactTeacher) else compact_from_dense(found)
        has = (compact.codes.voxels is not None, compact.codes.bev is not None)
        if has != (self.has_voxels, self.has_bev):
            raise TeacherFileError(
                f"{where} holds (voxels, BEV map) = {has}, the manifest says {(self.has_voxels, self.has_bev)}; "
                "convert the folder again"
            )
        return self.targets(compact, where)

    def gather(self, targets: TeacherTargets, grid_map: GridMap) -> TeacherTargets:
        """Targets moved from `grid` by a map to it, see `gather_teacher`, and pooled where the model's is coarser."""
        moved = gather_teacher(targets, grid_map, self.grid)
        return moved if self._factor == 1 else pool_teacher(moved, self._model_grid.shape, self._factor)

    def targets(self, compact: CompactTeacher, where: str) -> TeacherTargets:
        """Targets on the files' grid, padded to `capacity`; `where` names the file in errors.

        Raises:
          TeacherFileError: more active voxels than the manifest says.
        """
        voxels, bev = compact.codes
        if voxels is not None:
            if len(voxels.index) > self.capacity:
                raise TeacherFileError(
                    f"{where} has {len(voxels.index)} active voxels, more than the {self.capacity} that the manifest "
                    "allows for; convert the folder again"
                )
            # Every sample has the same shapes, and a mask where one file has one: the step is compiled once.
            voxels = pad_rows(voxels, self.capacity, self.grid.num_voxels)
            if self._has_validity and voxels.valid is None:
                voxels = voxels._replace(valid=np.packbits(np.ones(self.grid.num_voxels, bool)))
        return TeacherTargets(voxels, bev)


class TeacherFolder(TeacherLayout):
    """A folder of teacher files with its manifest.

    Attributes:
      directory: the folder.
    """

    def __init__(
        self, directory: Path, grid: VoxelGrid, *, data: DataConfig | None = None, capacity_factor: float = 1.25
    ):
        """As `TeacherLayout`, with the manifest of `directory` (occjax convert-teacher or --mode=dump).

        Args:
          directory: the folder.
          grid: the model's grid.
          data: root, version and splits file of the tables, for the commands in errors; the defaults where it is None.
          capacity_factor: as for `TeacherLayout`.

        Raises:
          TeacherFileError: manifest absent, unreadable, or of another schema or class order.
          GridMismatchError: the model's grid is no aligned crop of the files' grid.
        """
        self.directory = Path(directory)
        self._data = data or DataConfig()
        manifest = read_manifest(self.directory)
        try:
            super().__init__(manifest, grid, capacity_factor=capacity_factor)
        except GridMismatchError as error:
            where = f"the teacher files in {self.directory} lie on another grid"
            remedy = resampling_command(self._data, VoxelGrid.from_dict(manifest["grid"]), grid)
            raise GridMismatchError(f"{where}: {error}{': ' if remedy else ''}{remedy}") from error

    def path(self, token: str) -> Path:
        """The file with the targets of a sample."""
        return self.directory / f"{token}.npz"

    def completing_command(self) -> str:
        """The command line that adds what the folder lacks."""
        # A run that dumped its predictions has no dump to convert.
        if workdir := self.manifest.get("workdir"):
            return dump_command(workdir, self.directory)
        return completing_command(
            self._data,
            self.directory,
            self.grid,
            is_resampled=self._has_validity,
            weights=self.manifest.get("weights"),
        )

    def missing(self, tokens) -> list[str]:
        """The tokens that have no file, in the order given."""
        # One listing: asking for 28,000 files one by one takes minutes on a network file system.
        present = {path.stem for path in self.directory.glob("*.npz")}
        return [token for token in tokens if token not in present]

    def read(self, token: str) -> TeacherTargets:
        """Targets of one sample.

        Raises:
          TeacherFileError: file absent or unreadable, or as `decode` says.
          GridMismatchError: as `decode`.
        """
        where = f"teacher file {self.path(token)}"
        try:
            return self.decode(self.path(token).read_bytes(), token, where)
        except TeacherFileError:
            raise
        except (OSError, DataError) as error:
            raise TeacherFileError(
                f"{where} of sample {token} cannot be read ({error}); delete it and run {self.completing_command()}"
            ) from error


def read_manifest(directory: Path) -> dict:
    """The manifest of a teacher folder.

    Raises:
      TeacherFileError: absent, unreadable, another schema version, class order or softened targets.
    """
    path = Path(directory) / MANIFEST_NAME
    remedy = "make the folder with occjax convert-teacher"
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise TeacherFileError(f"no teacher manifest {path}; {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        if path.is_file() and path.stat().st_size == 0:
            raise TeacherFileError(
                f"teacher manifest {path} is empty, as a crash of the machine leaves it; the same conversion with "
                "--skip-existing writes it anew from the files"
            ) from error
        raise TeacherFileError(f"teacher manifest {path} cannot be read ({error}); {remedy}") from error
    if not isinstance(manifest, dict):
        raise TeacherFileError(f"teacher manifest {path} holds no object but a {type(manifest).__name__}; {remedy}")
    expected = {"schema": SCHEMA, "version": SCHEMA_VERSION, "classes": list(CLASS_NAMES), "temperature": 1.0}
    for name, value in expected.items():
        found = manifest.get(name)
        if found != value:
            raise TeacherFileError(f"teacher manifest {path}: {name} is {found!r}, not {value!r}; {remedy}")
    absent = [name for name in ("grid", "contents", "max_active_voxels", "value_kind") if name not in manifest]
    if absent:
        raise TeacherFileError(f"teacher manifest {path} lacks {', '.join(absent)}; {remedy}")
    try:
        require_facts(manifest)
    except DataError as error:
        raise TeacherFileError(f"teacher manifest {path}: {error}; {remedy}") from error
    return manifest


def require_facts(manifest: dict) -> None:
    """Raises DataError where what a manifest says of its files is of another kind."""
    try:
        VoxelGrid.from_dict(manifest["grid"])
        contents, largest = manifest["contents"], manifest["max_active_voxels"]
        if not all(isinstance(contents[name], bool) for name in ("voxels", "bev", "validity")):
            raise ValueError(f"contents must be true or false each, not {contents}")
        if isinstance(largest, bool) or not isinstance(largest, int) or largest < 0:
            raise ValueError(f"max_active_voxels must be a whole number, 0 or more, not {largest!r}")
        if not isinstance(manifest.get("value_kind", {}), dict):
            raise ValueError(f"value_kind must be counts by kind, not {manifest['value_kind']!r}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"it does not say what its files hold: {type(error).__name__}: {error}") from error
