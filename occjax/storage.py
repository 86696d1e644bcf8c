"""Storage: reading .npz files safely, writing whole files or none, and what they were made with."""

import contextlib
import importlib.metadata
import io
import json
import os
import struct
import subprocess
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from isal import isal_zlib

_PACKAGES = ("occjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_LOCAL_HEADER = 30  # bytes before name and extra field, whose lengths are its last four bytes


def read_npz(source: Path | bytes, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of these names, or all of them, of an .npz file or its bytes.

    Raises:
      KeyError: a name is not in the file.
      ValueError, EOFError or zipfile.BadZipFile: the file is truncated, damaged or no .npz of plain arrays.
      OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist() if names is None else [archive.getinfo(f"{name}.npy") for name in names]
        return {member.filename.removesuffix(".npy"): _array(data, member) for member in members}


def _array(data: bytes, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        lengths = struct.unpack_from("<HH", data, member.header_offset + _LOCAL_HEADER - 4)
        start = member.header_offset + _LOCAL_HEADER + sum(lengths)
        content = memoryview(data)[start : start + member.compress_size]
        if member.compress_type == zipfile.ZIP_DEFLATED:
            content = isal_zlib.decompress(content, -15, member.file_size)
        elif member.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile(f"{member.filename} is compressed by method {member.compress_type}")
    except (struct.error, isal_zlib.error) as error:
        raise zipfile.BadZipFile(f"{member.filename} cannot be inflated: {error}") from error
    if isal_zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} has a wrong checksum")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def versions() -> dict[str, str]:
    """Package versions and the git revision, each where it can be had: what is nice to know never ends a run."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    with contextlib.suppress(OSError):  # there may be no git
        root, revision = (
            _git(*words) for words in (("rev-parse", "--show-toplevel"), ("describe", "--always", "--dirty"))
        )
        # Of this source tree alone: an environment may lie inside somebody's own repository.
        if root and revision and (Path(root) / "occjax").resolve() == Path(__file__).resolve().parent:
            found["git"] = revision
    return found


def _git(*words: str) -> str:
    """What git says about the folder of this file, empty where it says nothing."""
    command = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextlib.contextmanager
def writing(path: Path, *, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when all went well: a reader never sees half a file.

    It lies in the same folder, which is made if absent, under a hidden name with the number of this process: several
    processes may write the same file, and listings of whole files pass over what a killed one left.

    Args:
      path: the file.
      suffix: what the temporary name ends in, for writers that tell the format from it.

    Raises:
      OSError: the folder cannot be made, or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Writes JSON for people, whole or not at all; raises OSError."""
    with writing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
