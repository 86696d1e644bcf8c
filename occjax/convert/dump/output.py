"""The folder that a conversion fills: what an earlier run left there, and its manifest."""

import dataclasses
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

import occjax
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit import Audit
from occjax.convert.dump.listing import DumpFile
from occjax.convert.dump.options import DumpOptions
from occjax.targets.files import (
    MANIFEST_NAME,
    CompactTeacher,
    TeacherFileError,
    compact_from_dense,
    read_teacher,
    read_value_kind,
    write_manifest,
)

KEYFRAMES = 34_149  # in nuScenes' train and val splits


@dataclasses.dataclass
class Conversion:
    """What a conversion did.

    Attributes:
      written, skipped: samples converted now, and kept from before.
      failures: (file, reason) of every input that gave nothing.
      bytes_written: size of the files written now.
      kl: mean KL(dump || file) in nats per voxel (of BEV maps: per cell) over the first of them; None where it was not
        measured: nothing written, or files that are dense or on another grid.
      decode_ms: processor time from file to training targets, median over the first of them; None as for `kl`.
      audit: what the audit found, or None where it was off or no labels are there.
    """

    written: int = 0
    skipped: int = 0
    failures: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    bytes_written: int = 0
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


def _contents(options: DumpOptions, files: list[DumpFile]) -> dict[str, bool]:
    has_voxels = files[0].voxels is not None
    return {"voxels": has_voxels, "bev": not has_voxels, "validity": options.output_grid is not None}


def previous_manifest(output: Path, options: DumpOptions, files: list[DumpFile]) -> dict:
    """The manifest of an earlier run, which must have made the same kind of files; empty if there is none."""
    path = output / MANIFEST_NAME
    if not path.is_file():
        return {}
    manifest = json.loads(path.read_text())
    ours = {
        "grid": (options.output_grid or options.grid).to_dict(),
        "form": options.form,
        "contents": _contents(options, files),
    }
    different = [name for name, value in ours.items() if manifest.get(name) != value]
    if different:
        raise DumpError(
            f"{output} holds teacher files of another {', '.join(different)}; choose another --output or delete it"
        )
    return manifest


def kept_facts(kept: list[Path], previous: dict) -> tuple[int, Counter[str]]:
    """Largest count of active voxels in the files kept, and how many there are of each value kind.

    From the manifest if it counts just these files, else from the files: an earlier run was cut off before its
    manifest, or some of its files are being written anew.

    Raises:
      TeacherFileError: a file kept is damaged.
    """
    if previous.get("samples") == len(kept):
        return int(previous["max_active_voxels"]), Counter(previous["value_kind"])
    largest, kinds = 0, Counter()
    for path in kept:
        try:
            found, kind = read_teacher(path), read_value_kind(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TeacherFileError(
                f"{path}, kept from an earlier run, cannot be read ({error}); delete it and run the same command again"
            ) from error
        compact = found if isinstance(found, CompactTeacher) else compact_from_dense(found)
        voxels = compact.codes.voxels
        largest = max(largest, 0 if voxels is None else len(voxels.index))
        kinds[kind] += 1
    return largest, kinds


def write_output_manifest(
    output: Path,
    source: Path,
    options: DumpOptions,
    files: list[DumpFile],
    matched_by: str,
    kinds: Counter,
    largest: int,
    result: Conversion,
    previous: dict,
) -> None:
    """Writes the manifest of a conversion; `largest` is the largest count of active voxels in one file."""
    audit = result.audit
    size = result.bytes_written // result.written if result.written else previous.get("bytes_per_sample")
    details = {
        "bev": "column rule over the voxels" if files[0].voxels is not None else "maps of the dump",
        "mean_kl_nats": result.kl if result.written else previous.get("mean_kl_nats"),
        "bytes_per_sample": size,
        "failed": len(result.failures),
        "infos": dict(options.infos),
        "versions": {"occjax": occjax.__version__, "numpy": np.__version__},
        "audit": None
        if audit is None
        else {
            "protocol": "SurroundOcc",
            "samples": audit.samples,
            "true_pairing": audit.true_pairing._asdict(),
            "shuffled": None if audit.shuffled is None else audit.shuffled._asdict(),
        },
    }
    write_manifest(
        output,
        grid=options.output_grid or options.grid,
        form=options.form,
        samples=len(list(output.glob("*.npz"))),
        max_active_voxels=largest,
        contents=_contents(options, files),
        source=source.name,
        matched_by=matched_by if not options.infos else f"{matched_by} in an info pickle",
        value_kind=dict(kinds),
        details=details,
    )
