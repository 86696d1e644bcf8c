"""A folder of teacher files that a conversion or a student fills: what an earlier run left there, and its manifest."""

import dataclasses
from collections import Counter
from pathlib import Path

from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit import Audit
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.targets.facts import read_facts
from occjax.targets.files import MANIFEST_NAME, TeacherFileError, read_teacher, write_manifest
from occjax.targets.folder import read_manifest

KEYFRAMES = 34_149  # in nuScenes' train and val splits


@dataclasses.dataclass
class TeacherOutput:
    """A folder of teacher files while it is filled.

    Attributes:
      folder: where the files go.
      source: what they are made from.
      grid: of all files.
      form: of all files, "compact" or "dense".
      has_voxels: whether they hold voxels, or else BEV maps.
      has_validity: whether there are voxels that the teacher does not know.
      matched_by: how it is known which sample a file belongs to.
      kept, written: files that were there before and stay, and files written now.
      bytes_written: size of the latter in all.
      largest: largest count of active voxels in one file.
      kinds: files by the kind of the values that they were made from.
    """

    folder: Path
    source: str
    grid: VoxelGrid
    form: str = "compact"
    has_voxels: bool = True
    has_validity: bool = False
    matched_by: str = "token"
    kept: int = 0
    written: int = 0
    bytes_written: int = 0
    largest: int = 0
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def contents(self) -> dict[str, bool]:
        """What every file holds, in the manifest's words."""
        return {"voxels": self.has_voxels, "bev": not self.has_voxels, "validity": self.has_validity}

    def make_folder(self) -> None:
        """Makes the folder; raises DumpError where that cannot be done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DumpError(f"cannot write to {self.folder}: {error.strerror}; choose another --output") from error

    def previous(self, *compared: str) -> dict:
        """The manifest of an earlier run, empty if there is none; the facts `compared` must be those of this one.

        Raises:
          DumpError: they are not.
          TeacherFileError: the manifest cannot be read.
        """
        path = self.folder / MANIFEST_NAME
        if not path.is_file():
            return {}
        if path.stat().st_size == 0 and "source" not in compared:
            # As a crash of the machine leaves it: what the files hold, they say themselves.
            self._require_grid_of_files()
            return {}
        manifest = read_manifest(self.folder)
        ours = {"source": self.source, "grid": self.grid.to_dict(), "form": self.form, "contents": self.contents}
        found = [(name, manifest.get(name), ours[name]) for name in compared]
        different = [f"{name} ({then}, now {now})" for name, then, now in found if then != now]
        if different:
            raise DumpError(
                f"{self.folder} holds teacher files of another {', '.join(different)}; choose another --output, or "
                f"begin anew: rm -r {self.folder}"
            )
        return manifest

    def _require_grid_of_files(self) -> None:
        """Raises DumpError where the first file lies on another grid or cannot be read."""
        for path in sorted(self.folder.glob("*.npz"))[:1]:
            try:
                found = read_teacher(path).grid
            except (OSError, DataError) as error:
                raise DumpError(f"{path} cannot be read ({error}); delete it and run the same command again") from error
            if found != self.grid:
                raise DumpError(
                    f"{self.folder} holds teacher files on {found}, now {self.grid}; choose another --output"
                )

    def require_own(self) -> None:
        """Raises DumpError where the folder holds files but no manifest: they are somebody else's."""
        path = self.folder / MANIFEST_NAME
        if path.is_file() and path.stat().st_size == 0:
            raise DumpError(
                f"{path} is empty, as a crash of the machine leaves it, and nothing says which weights the files "
                f"there are of; choose another --output, or begin anew: rm -r {self.folder}"
            )
        # Whoever fills a folder over days writes its manifest before the first file.
        if not (self.folder / MANIFEST_NAME).is_file() and any(self.folder.glob("*.npz")):
            raise DumpError(f"{self.folder} holds .npz files but no {MANIFEST_NAME}; choose another --output")

    def keep(self, paths: list[Path], previous: dict) -> None:
        """Counts files of an earlier run, which stay.

        From its manifest if that counts just these files, else from the files: the run was cut off before its manifest,
        or some of its files are being written anew.

        Raises:
          TeacherFileError: a file kept is damaged.
        """
        self.kept = len(paths)
        # Opening 28,000 files to count their rows takes a minute.
        if previous.get("samples") == len(paths):
            self.largest, self.kinds = int(previous["max_active_voxels"]), Counter(previous["value_kind"])
            return
        self.largest, self.kinds = 0, Counter()
        for path in paths:
            try:
                self._count(*read_facts(path))
            except (OSError, DataError) as error:
                raise TeacherFileError(
                    f"{path}, kept from an earlier run, cannot be read ({error}); delete it and run the same command "
                    "again"
                ) from error

    def keep_but(self, targets: set[Path], previous: dict) -> None:
        """Counts what lies in the folder but for `targets`, which are about to be written, and counted, anew."""
        self.keep([path for path in sorted(self.folder.glob("*.npz")) if path not in targets], previous)

    def count_folder(self, paths: list[Path]) -> None:
        """Counts all files of the folder anew, where others fill it too; raises TeacherFileError as `keep` does."""
        self.keep(paths, {})
        self.kept -= self.written

    def add(self, kind: str, size: int, active: int) -> None:
        """Counts a file of `size` bytes written now, with its kind of values and count of active voxels."""
        self.written += 1
        self.bytes_written += size
        self._count(kind, active)

    def _count(self, kind: str, active: int) -> None:
        self.kinds[kind] += 1
        self.largest = max(self.largest, active)

    def write_manifest(self, **details: object) -> None:
        """Writes the manifest of all files, with further facts; raises DumpError where that cannot be done."""
        details["bev"] = "column rule over the voxels" if self.has_voxels else "maps of the dump"
        try:
            write_manifest(
                self.folder,
                grid=self.grid,
                form=self.form,
                contents=self.contents,
                source=self.source,
                samples=self.kept + self.written,
                max_active_voxels=self.largest,
                matched_by=self.matched_by,
                value_kind=dict(self.kinds),
                details=details,
            )
        except OSError as error:
            raise DumpError(f"cannot write to {self.folder}: {error.strerror}; choose another --output") from error


@dataclasses.dataclass
class Conversion(TeacherOutput):
    """What a conversion did.

    Attributes:
      failures: (file, reason) of every input that gave nothing.
      kl: mean KL(dump || file) in nats per voxel (of BEV maps: per cell) over the first of them; None where it was not
        measured: nothing written, or files that are dense or on another grid.
      decode_ms: processor time from file to training targets, median over the first of them; None as for `kl`.
      audit: what the audit found, or None where it was off or no labels are there.
    """

    failures: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    kl: float | None = None
    decode_ms: float | None = None
    audit: Audit | None = None

    def report(self) -> list[str]:
        """Lines on what the files written cost and lose; none where nothing was written."""
        if not self.written:
            return []
        size = self.bytes_written / self.written
        lines = [
            f"  {size / 1e6:.3f} MB per sample: {size * KEYFRAMES / 1e9:.1f} GB for nuScenes' {KEYFRAMES:,} keyframes"
        ]
        if self.kl is not None:
            lines.append(f"  mean KL(dump || file) {self.kl:.1e} nats")
        if self.decode_ms is not None:
            lines.append(f"  {self.decode_ms:.1f} ms on one core from a file to training targets")
        return lines
