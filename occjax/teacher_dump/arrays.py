"""One array out of a dump file, whatever its container: .npz, .npy or .pt."""

import io
import zipfile
from pathlib import Path

import numpy as np

from occjax.errors import UserError
from occjax.torch_zip import TensorRef, load_checkpoint

SUFFIXES = (".npz", ".npy", ".pt", ".pth")
# Keys that dump scripts use, most specific first.
USUAL_KEYS = ("pred_occ", "voxel_logits", "logits", "prob", "probs", "bev_logits", "arr_0")


class DumpError(UserError):
    """A dump, or one file of it, is not what the converter can read."""


def read_dump_array(path: Path, key: str = "") -> np.ndarray:
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
            return np.load(path, allow_pickle=False)
        if path.suffix in (".pt", ".pth"):
            return _read_torch(path, key)
    except UserError:
        raise
    # A foreign file can break its reader in any way; the run goes on with the next one.
    except Exception as error:
        raise DumpError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    raise DumpError(f"{path}: a dump file ends in one of {', '.join(SUFFIXES)}")


def _read_npz(path: Path, key: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        name = members[_choose(path, list(members), key)]
        # In one go: numpy itself inflates in small pieces, which costs a fifth of the time.
        stream = io.BytesIO(archive.read(name))
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_fortran, dtype = read_header[version](stream)
    if dtype.hasobject:
        raise DumpError(f"{path}: {name} holds Python objects, which are never loaded; save plain numbers")
    values = np.frombuffer(stream.getbuffer(), dtype, count=int(np.prod(shape)), offset=stream.tell())
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)


def _read_torch(path: Path, key: str) -> np.ndarray:
    loaded = load_checkpoint(path)
    if isinstance(loaded, TensorRef):
        return loaded.array()
    if not isinstance(loaded, dict):
        raise DumpError(f"{path} holds a {type(loaded).__name__}; a tensor or a dict of tensors is needed")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, TensorRef)}
    return tensors[_choose(path, list(tensors), key)].array()


def _choose(path: Path, names: list[str], key: str) -> str:
    if key and key in names:
        return key
    usual = [name for name in USUAL_KEYS if name in names]
    # The dump script's option says which output of the model was saved; the file calls it by its own name.
    if usual and (not key or key in USUAL_KEYS):
        return usual[0]
    if len(names) == 1 and not key:
        return names[0]
    held = ", ".join(names) or "nothing"
    raise DumpError(f"{path} holds {held}; name the array with --dump-3d-key or --bev-prob-key")
