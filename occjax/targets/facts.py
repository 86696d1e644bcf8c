"""Facts of a teacher file that its folder's manifest sums up, without reading the whole of it."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from occjax.errors import DataError
from occjax.npz import read_npz
from occjax.targets.file_checks import MOST_VOXELS
from occjax.targets.files import DenseTeacher, compact_from_dense, read_meta, read_teacher


class FileFacts(NamedTuple):
    """What a folder's manifest says of a file.

    Attributes:
      value_kind: what the numbers were that it was made from.
      active: voxels with a row.
    """

    value_kind: str
    active: int


def read_facts(path: Path) -> FileFacts:
    """Facts of a file; raises DataError or OSError where it is damaged."""
    # Not `read_teacher`: of a compact file the bits say it, and reading 28,000 whole ones takes minutes.
    try:
        kind = str(read_meta(path).get("value_kind", ""))
        with zipfile.ZipFile(path) as archive:
            held = archive.namelist()
        if "active.npy" in held:
            active = read_npz(path, ("active",), largest=MOST_VOXELS // 8)["active"]
            return FileFacts(kind, int(np.unpackbits(active).sum()))
        if "voxel_logits.npy" not in held:
            return FileFacts(kind, 0)
    except (ValueError, TypeError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(f"no readable teacher file: {error}") from error
    dense = read_teacher(path)
    assert isinstance(dense, DenseTeacher)
    voxels = compact_from_dense(dense).codes.voxels
    return FileFacts(kind, 0 if voxels is None else len(voxels.index))
