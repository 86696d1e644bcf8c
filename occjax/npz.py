"""Arrays of .npy and .npz files: plain numbers and text, none larger than was expected, however well packed."""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from occjax.errors import DataError

# What an archive of weights or an index of nuScenes has, several times over.
LARGEST_ARRAY = 1 << 30
# What zipfile raises for directories that lie; RuntimeError: an encryption.
_DIRECTORY_ERRORS = (RuntimeError, ValueError, EOFError, OSError, OverflowError, IndexError)
LONGEST_HEADER = 1 << 16  # enough for whatever numpy writes


class ArrayFileError(DataError):
    """A .npy or .npz file cannot be read: damaged, larger than it may be, or holding something else."""


def read_npz(
    source: Path | bytes, names: Collection[str] | None = None, *, largest: int = LARGEST_ARRAY
) -> dict[str, np.ndarray]:
    """The arrays of these names, or all of them, of an .npz file or its bytes.

    Args:
      source: file or bytes.
      names: of the arrays that are read.
      largest: bytes that an array may have; asked of the archive's directory before anything is unpacked.

    Raises:
      ArrayFileError: a name is not in the file, or it is truncated, damaged, too large or no .npz of plain arrays.
      OSError: the file cannot be opened.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        return _read_archive(file, names, largest)


def _read_archive(file: io.BufferedIOBase, names: Collection[str] | None, largest: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            # Read by the last entry of a name, as zipfile does.
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = list(members) if names is None else list(names)
            if absent := [name for name in wanted if name not in members]:
                raise ArrayFileError(f"it has no array {', '.join(absent)}, but {', '.join(members) or 'none'}")
            return {name: read_npy(_unpacked(archive, members[name], largest), name) for name in wanted}
    except ArrayFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, *_DIRECTORY_ERRORS) as error:
        raise ArrayFileError(f"it is no sound .npz: {error}") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, largest: int) -> bytes:
    """A member's bytes, checked by its checksum."""
    if info.file_size > largest + LONGEST_HEADER:
        raise ArrayFileError(f"{info.filename} says that it has {info.file_size} bytes, at most {largest} are expected")
    # zipfile unpacks other compressions in one go, however much comes out.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArrayFileError(f"{info.filename} has a compression ({info.compress_type}) that numpy does not write")
    with archive.open(info) as member:
        # With a length: without one, as much is unpacked as there is, whatever the directory says.
        head = member.read(min(info.file_size, LONGEST_HEADER))
        if len(head) == info.file_size:
            return head
        # The head says how large the array is: what does not fit is not unpacked further.
        array_header(head, info.file_size, info.filename)
        member.seek(0)
        return member.read(info.file_size)


def read_npy(data: bytes | memoryview, what: str = "it") -> np.ndarray:
    """The array of a .npy file's bytes, which it shares: it cannot be written to.

    Args:
      data: of the whole file.
      what: names the array in errors.

    Raises:
      ArrayFileError: truncated, or no array of plain numbers or text.
    """
    shape, is_fortran, dtype, start = array_header(data, len(data), what)
    values = np.frombuffer(data, dtype, offset=start) if math.prod(shape) else np.empty(0, dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)


def array_header(data: bytes | memoryview, size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether columns come first, dtype and place of the numbers, from the beginning of a .npy file.

    Args:
      data: the first 64 kB of it, or all.
      size: of the file, bytes, which the array has to fill.
      what: names the array in errors.

    Raises:
      ArrayFileError: no header of plain numbers or text, or of another size.
    """
    stream = io.BytesIO(data[:LONGEST_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f"version {version}")
        shape, is_fortran, dtype = headers[version](stream)
    # numpy evaluates the header as Python, which fails in as many ways.
    except (ValueError, TypeError, EOFError, SyntaxError, OverflowError, RecursionError, tokenize.TokenError) as error:
        raise ArrayFileError(f"{what} has no readable .npy header: {str(error)[:200]}") from error
    if dtype.kind not in "biufcSU" or dtype.itemsize == 0:
        raise ArrayFileError(f"{what} holds {dtype}; only plain numbers and text are read, Python objects never")
    if any(not isinstance(length, int) or length < 0 for length in shape):
        raise ArrayFileError(f"{what} has the shape {shape}")
    found, needed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if found != needed:
        raise ArrayFileError(f"{what} is {dtype} {shape}, {needed} bytes, but {found} are there")
    return shape, is_fortran, dtype, stream.tell()
