"""Weight files of PyTorch, checkpoints and safetensors, read without PyTorch and without running their code."""

import math
import reprlib
import zipfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from occjax.convert.foreign_pickle import Entries, RefusedNameError, load_pickle
from occjax.convert.torch_legacy import LEGACY_MAGIC, LegacyFile, bytes_of
from occjax.errors import UserError

_STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# The tar of three members is what torch wrote first of all.
_MOST_AXES = 8
# RuntimeError: encryption; ValueError, OverflowError and IndexError: a directory that lies.
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, OverflowError, IndexError)
_ZIP_MAGIC, _TAR_NAMES = b"PK\x03\x04", (b"pickle", b"storages", b"tensors")


class WeightsFileError(UserError):
    """A weight file cannot be read, or holds something that is neither a tensor nor a plain container."""


class TensorRef:
    """A tensor inside a checkpoint, read when `array()` is called: optimizer moments cost nothing unless asked for."""

    def __init__(
        self, archive: "_Archive | LegacyFile", storage: "_StorageRecord", offset: int, shape: tuple, strides: tuple
    ):
        # A hostile pickle calls this with anything at all. True is a number to Python, and none to numpy.
        numbers = (offset, *shape, *strides)
        is_sound = isinstance(storage, _StorageRecord) and all(type(n) is int for n in numbers)
        if not is_sound or len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise WeightsFileError(
                f"{archive.path}: no tensor has storage {reprlib.repr(storage)} and numbers {reprlib.repr(numbers)}; "
                "get the file again"
            )
        self._archive, self._storage, self._offset, self._strides = archive, storage, offset, tuple(strides)
        self.shape = tuple(shape)

    def __setstate__(self, state):
        raise WeightsFileError(f"{self._archive.path}: it changes a tensor after it was built; get the file again")

    def array(self) -> Shaped[np.ndarray, "..."]:
        """The values as a numpy array of their own; bfloat16 becomes float32.

        Raises:
          WeightsFileError: the tensor reaches outside its storage, or has more values than that.
        """
        key, dtype = self._storage
        raw = self._archive.read(f"data/{key}")
        values = np.frombuffer(raw, "<u2" if dtype == "bfloat16" else dtype, count=len(raw) // bytes_of(dtype))
        # Checked before as_strided, which would read whatever lies in memory there.
        last = self._offset + sum((n - 1) * s for n, s in zip(self.shape, self._strides, strict=True))
        is_negative = min((self._offset, *self.shape, *self._strides)) < 0
        # Expanded and overlapping tensors, which no weights are, make terabytes of a few bytes.
        count = math.prod(self.shape)
        try:
            if is_negative or count > len(values) or (count and last >= len(values)):
                raise ValueError("outside")
            strides = tuple(s * values.itemsize for s in self._strides)
            view = np.lib.stride_tricks.as_strided(values[self._offset :], self.shape, strides, writeable=False)
        except (ValueError, OverflowError) as error:  # numpy's own, of numbers beyond 64 bits where nothing is stored
            raise WeightsFileError(
                f"{self._archive.path}: a tensor of shape {self.shape} and strides {self._strides} reaches outside its "
                f"storage of {len(values)} values, or repeats them; the file is damaged, get it again, or save it with "
                "tensor.contiguous()"
            ) from error
        return _from_bfloat16(view) if dtype == "bfloat16" else view.copy()


class _Archive:
    """The zip file of a checkpoint: one folder with `data.pkl` and `data/<storage>`."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            # The folder inside is called like the file was when it was saved.
            pickles = [name for name in self._zip.namelist() if name.endswith("/data.pkl")]
        except _ZIP_ERRORS as error:
            raise WeightsFileError(f"{path}: not a complete zip archive ({error}); get the file again") from error
        if len(pickles) != 1:
            raise WeightsFileError(
                f"{path}: a checkpoint has one data.pkl, this archive {len(pickles)}; save it with torch.save "
                "(a TorchScript archive: torch.save(torch.jit.load(path).state_dict(), new_path))"
            )
        self._prefix = pickles[0].removesuffix("data.pkl")
        is_new = self._prefix + "byteorder" in self._zip.namelist()  # written from torch 2.1 on
        if is_new and self.read("byteorder").strip() != b"little":
            raise WeightsFileError(f"{path}: written on a big-endian machine; save it again on a little-endian one")

    def read(self, name: str) -> bytes:
        try:
            info = self._zip.getinfo(self._prefix + name)
            # torch compresses nothing: a kilobyte that unpacks to a megabyte is somebody else's.
            if info.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile("it is compressed, which torch never does")
            return self._zip.read(info)
        except (KeyError, *_ZIP_ERRORS) as error:
            raise WeightsFileError(
                f"{self.path}: cannot read {self._prefix}{name} ({error}); the file is damaged, get it again"
            ) from error


class _Namespace(Entries):
    """Stands in for argparse.Namespace, in which training scripts keep their arguments: attributes as a plain dict."""

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.update(state)


class _StorageRecord(NamedTuple):
    """Where a tensor's values lie: the archive member's name and their type."""

    key: str
    dtype: str


def _stand_ins(archive: "_Archive | LegacyFile") -> dict[tuple[str, str], object]:
    """Tensors as TensorRef, and plain containers."""
    return {
        ("collections", "OrderedDict"): Entries,
        ("argparse", "Namespace"): _Namespace,
        ("torch._utils", "_rebuild_tensor_v2"): partial(_rebuild_tensor, archive),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, requires_grad, hooks: tensor,
        ("torch", "Size"): lambda axes=(): tuple(map(int, axes)),
        # Storage types are only ever named, beside the key of what is stored: plain text, which cannot be called.
        **{(module, name): dtype for module in ("torch", "torch.storage") for name, dtype in _STORAGE_DTYPES.items()},
    }


def _storage_record(path: Path, pid) -> _StorageRecord:
    try:
        # What follows is a device, which is not ours, a count, which the bytes say better, and in old files a view.
        kind, storage, key, _, _, *view = pid
        assert not any(view) and kind == "storage" and storage in _STORAGE_DTYPES.values() and isinstance(key, str)
    except (AssertionError, TypeError, ValueError) as error:
        raise WeightsFileError(f"{path}: unknown storage record {reprlib.repr(pid)}; get the file again") from error
    return _StorageRecord(key, storage)


def _rebuild_tensor(archive, storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    return TensorRef(archive, storage, offset, shape, strides)


def _from_bfloat16(bits: Shaped[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    # The upper half of a float32.
    return (bits.astype(np.uint32) << 16).view(np.float32)


def load_checkpoint(path: str | Path):
    """What `torch.save` wrote to a checkpoint (.pth, .pt) in either of its formats, with a TensorRef for every tensor.

    Nothing in the file is executed: a pickle that names anything but tensors and plain containers is refused.

    Raises:
      WeightsFileError: no such file, damaged, of the very first format, or holding other objects.
    """
    path = _existing(path)
    archive = _opened(path)
    stored = partial(_storage_record, path)
    try:
        if isinstance(archive, LegacyFile):
            return archive.load(_stand_ins(archive), lambda record: (record.key, bytes_of(record.dtype)), stored)
        return load_pickle(archive.read("data.pkl"), _stand_ins(archive), stored)
    except RefusedNameError as error:
        raise WeightsFileError(
            f"{path}: refused {error}: only tensors and plain containers are read from a foreign pickle; save the "
            "weights alone, torch.save(model.state_dict(), new_path)"
        ) from error
    except WeightsFileError:
        raise
    except Exception as error:  # a hostile or broken pickle may raise anything at all
        raise WeightsFileError(f"{path}: the pickle inside cannot be read ({error}); get the file again") from error


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise WeightsFileError(f"no weight file {path}; check the path")
    return Path(path)


def _opened(path: Path) -> "_Archive | LegacyFile":
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise WeightsFileError(f"{path}: cannot be read ({error.strerror})") from error
    if head.startswith(_ZIP_MAGIC):
        return _Archive(path)
    if head.startswith(LEGACY_MAGIC):
        return LegacyFile(path)
    if any(head.startswith(name) for name in _TAR_NAMES):
        raise WeightsFileError(
            f"{path}: written in the format of the first versions of torch; with torch installed, save it again: "
            f"torch.save(torch.load({str(path)!r}, map_location='cpu', weights_only=True), 'new.pth')"
        )
    raise WeightsFileError(
        f"{path}: neither a PyTorch checkpoint (.pth, .pt) nor .safetensors; check that it is complete"
    )


def load_safetensors(path: str | Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every tensor of a .safetensors file; bfloat16 becomes float32, and what has 64 bits 32.

    Raises:
      WeightsFileError: no such file, truncated, or with an unknown type.
    """
    # Here, because a dump's converter processes read .pt files and do without jax.
    from safetensors import SafetensorError
    from safetensors.flax import load_file  # safetensors.numpy knows no bfloat16

    try:
        tensors = load_file(_existing(path))
    # A type that jax does not know is a KeyError, TypeError or ValueError there.
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsFileError(f"{path}: not a complete .safetensors file ({error}); get it again") from error
    return {name: np.asarray(t.astype("float32") if t.dtype == "bfloat16" else t) for name, t in tensors.items()}
