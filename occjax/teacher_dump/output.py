"""The folder that a conversion fills: what an earlier run left there, and its manifest."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np

import occjax
from occjax.data.teacher_files import (
    MANIFEST_NAME,
    CompactTeacher,
    compact_from_dense,
    grid_to_dict,
    read_teacher,
    write_manifest,
)
from occjax.teacher_dump.arrays import DumpError
from occjax.teacher_dump.audit import Audit
from occjax.teacher_dump.listing import DumpFile
from occjax.teacher_dump.options import DumpOptions


@dataclasses.dataclass
class Conversion:
    """What a conversion did.

    Attributes:
      written, skipped: samples converted now, and kept from before.
      failures: (file, reason) of every input that gave nothing.
      bytes_written: size of the files written now.
      kl: mean KL(dump || file) in nats per voxel over the first of them.
      audit: what the audit found, or None where it was off or no labels are there.
    """

    written: int = 0
    skipped: int = 0
    failures: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    bytes_written: int = 0
    kl: float = 0.0
    audit: Audit | None = None


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
        "grid": json.loads(json.dumps(grid_to_dict(options.output_grid or options.grid))),
        "form": options.form,
        "contents": _contents(options, files),
    }
    different = [name for name, value in ours.items() if manifest.get(name) != value]
    if different:
        raise DumpError(
            f"{output} holds teacher files of another {', '.join(different)}; choose another --output or delete it"
        )
    return manifest


def largest_kept(kept: list[Path], previous: dict) -> int:
    """Largest count of active voxels in the files kept, from the manifest or, without one, from the files."""
    if not kept:
        return 0
    if previous:
        return int(previous["max_active_voxels"])
    largest = 0  # an earlier run was cut off before its manifest
    for path in kept:
        found = read_teacher(path)
        compact = found if isinstance(found, CompactTeacher) else compact_from_dense(found)
        largest = max(largest, 0 if compact.free is None else len(compact.free))
    return largest


def write_output_manifest(
    output: Path,
    source: Path,
    options: DumpOptions,
    files: list[DumpFile],
    matched_by: str,
    kinds: Counter,
    largest: int,
    result: Conversion,
) -> None:
    """Writes the manifest of a conversion; `largest` is the largest count of active voxels in one file."""
    audit = result.audit
    details = {
        "bev": "column rule over the voxels" if files[0].voxels is not None else "maps of the dump",
        "mean_kl_nats": result.kl,
        "bytes_per_sample": result.bytes_written // max(result.written, 1),
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
