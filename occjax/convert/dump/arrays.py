"""One array out of a dump file, whatever its container: .npz, .npy or .pt."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from occjax.convert.torch_zip import TensorRef, load_checkpoint
from occjax.errors import UserError
from occjax.npz import LARGEST_ARRAY, LONGEST_HEADER, ArrayFileError, array_header, read_npy

SUFFIXES = (".npz", ".npy", ".pt", ".pth")
# The fixed part of a zip member; the lengths of its name and extra field are the last four bytes of it.
_LOCAL_HEADER = 30
# Keys that dump scripts use, most specific first.
USUAL_KEYS = ("pred_occ", "voxel_logits", "logits", "prob", "probs", "bev_logits", "arr_0")


class DumpError(UserError):
    """A dump, or one file of it, is not what the converter can read."""


def read_dump_array(path: Path, key: str = "") -> Shaped[np.ndarray, "..."]:
    """The array of a dump file.

    Args:
      path: .npz, .npy, or .pt holding a tensor or a dict of tensors.
      key: name of the array; empty = a usual name, or the only array.

    Raises:
      DumpError: damaged file, unknown suffix, or the key is absent or cannot be told.
    """
    try:
        if path.suffix == ".npz":
            return _read_npz(path, key)
        if path.suffix == ".npy":
            return read_npy(path.read_bytes(), str(path))
        if path.suffix in (".pt", ".pth"):
            return _read_torch(path, key)
    except ArrayFileError as error:
        raise DumpError(str(error)) from error
    except UserError:
        raise
    # A foreign file can break its reader in any way; the run goes on with the next one.
    except Exception as error:
        raise DumpError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error
    raise DumpError(f"{path}: a dump file ends in one of {', '.join(SUFFIXES)}")


def _read_npz(path: Path, key: str) -> Shaped[np.ndarray, "..."]:
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        # Only asked for where no name decides: each one opens a member of the archive.
        ranks = {name: partial(_rank, archive, member) for name, member in members.items()}
        name = members[_choose(path, ranks, key)]
        # A view into the inflated bytes: np.load would copy these 23 MB once more.
        return read_npy(_inflated(path, archive, archive.getinfo(name)), f"{path}: {name}")


def _rank(archive: zipfile.ZipFile, member: str) -> int:
    with archive.open(member) as stream:
        return len(array_header(stream.read(LONGEST_HEADER), archive.getinfo(member).file_size, member)[0])


def _inflated(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of an archive's member, into one buffer of the right size: 86 ms of a dump where zipfile takes 114."""
    if info.file_size > LARGEST_ARRAY:
        raise DumpError(f"{path}: {info.filename} says that it has {info.file_size} bytes")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DumpError(f"{path}: {info.filename} has a compression ({info.compress_type}) that numpy does not write")
    with archive.open(info) as member:
        # The head says how large the array is: what does not fit is not inflated.
        head = member.read(min(info.file_size, LONGEST_HEADER))
        array_header(head, info.file_size, f"{path}: {info.filename}")
        if info.compress_type != zipfile.ZIP_DEFLATED:
            return head + member.read(info.file_size - len(head))
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
        file.seek(sum(struct.unpack("<HH", header[-4:])), 1)  # past name and extra field
        # No more than it says, however much there is.
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(info.compress_size), info.file_size)
    # What zipfile would have checked.
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"bad checksum of {info.filename}")
    return data


def _read_torch(path: Path, key: str) -> Shaped[np.ndarray, "..."]:
    loaded = load_checkpoint(path)
    if isinstance(loaded, TensorRef):
        return loaded.array()
    if not isinstance(loaded, dict):
        raise DumpError(f"{path}: holds a {type(loaded).__name__}; a tensor or a dict of tensors is needed")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, TensorRef)}
    ranks = {name: partial(len, tensor.shape) for name, tensor in tensors.items()}
    return tensors[_choose(path, ranks, key)].array()


def _choose(path: Path, ranks: dict[str, Callable[[], int]], key: str) -> str:
    """The array meant: the named one, one with a usual name, or the only one that is no list or single number."""
    if key and key in ranks:
        return key
    usual = [name for name in USUAL_KEYS if name in ranks]
    # The dump script's option says which output of the model was saved; the file calls it by its own name.
    if usual and (not key or key in USUAL_KEYS):
        return usual[0]
    if not key:
        # A dump may keep a token or a flag beside its scores.
        large = list(ranks) if len(ranks) == 1 else [name for name, rank in ranks.items() if rank() >= 2]
        if len(large) == 1:
            return large[0]
    held = ", ".join(ranks) or "nothing"
    raise DumpError(f"{path}: holds {held}; name the array with --dump-3d-key or --bev-prob-key")
