"""Sample order from GaussianFormer's info pickle, read without running anything that is in it."""

import math
import re
import reprlib
from pathlib import Path

import numpy as np

from occjax.convert.dump.arrays import DumpError
from occjax.convert.foreign_pickle import Entries, RefusedNameError, load_pickle

# numpy's own functions trust their arguments: numpy.ndarray lays objects over any bytes, numpy.dtype takes any flags.
# These stand in for them, and build arrays of numbers and text, or of objects that the same pickle built.
# One letter and a size: no fields, no titles, no shapes inside of a type.
_TYPES = re.compile(r"[biufcSUO]\d+|\?")


class _Dtype:
    """numpy.dtype: a letter and a size, then the byte order; no fields."""

    def __init__(self, code: str, is_aligned: bool = False, is_copy: bool = True):
        if not isinstance(code, str) or not _TYPES.fullmatch(code):
            raise DumpError(f"it asks for arrays of {reprlib.repr(code)}, only numbers, text and objects are read")
        self._dtype = np.dtype(code)

    def __setstate__(self, state):
        self._dtype = self._dtype.newbyteorder(state[1])

    def of_numbers(self) -> np.dtype:
        if self._dtype.hasobject:
            raise DumpError("it lays objects over raw bytes, which no honest file does")
        return self._dtype


class _Array(np.ndarray):
    """numpy.ndarray, empty until its state comes."""

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        # A list holds objects that the same pickle built; anything else is raw bytes.
        if not isinstance(data, list):
            dtype.of_numbers()
        elif math.prod(shape) != len(data):  # numpy would make room for all of them first
            raise DumpError(f"an array of shape {reprlib.repr(shape)} cannot hold {len(data)} objects")
        super().__setstate__((1, shape, dtype._dtype, is_fortran, data))


def _reconstruct(kind: object, shape: tuple, code: bytes) -> np.ndarray:
    if kind is not _Ndarray:
        raise DumpError(f"it asks for an array of class {reprlib.repr(kind)}, but only numpy.ndarray is built")
    # As numpy pickles arrays: an empty one first, then its state.
    return _Array((0,), np.uint8)


class _Ndarray:
    """Names numpy.ndarray to `_reconstruct`; it cannot be called."""

    def __new__(cls, *args):
        raise DumpError("it calls numpy.ndarray itself, which no honest file does")

    def __setstate__(self, state):
        """Nothing has a state: a class without this could be changed itself."""


def _scalar(dtype: _Dtype, data: bytes):
    return np.frombuffer(data, dtype.of_numbers(), count=1)[0]


def _frombuffer(data, dtype: _Dtype, shape: tuple, order) -> np.ndarray:
    return np.frombuffer(data, dtype.of_numbers()).reshape(shape, order=order)


def _encode_latin1(text: str, encoding: str) -> bytes:
    """_codecs.encode, which old pickles build bytes with."""
    if encoding != "latin1":
        raise DumpError(f"it asks for the codec {reprlib.repr(encoding)}, but only latin1 is read")
    return text.encode("latin1")


# All that such a file needs: containers are built by opcodes. numpy renamed its private module.
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Ndarray,
    ("_codecs", "encode"): _encode_latin1,
    ("collections", "OrderedDict"): Entries,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


def load_plain_pickle(path: Path):
    """Containers, numbers, strings and numpy arrays of a pickle.

    Raises:
      DumpError: absent, damaged, or it asks for anything else, which is named and not run.
    """
    try:
        return load_pickle(path.read_bytes(), _ALLOWED)
    except RefusedNameError as error:
        raise DumpError(
            f"info file {path}: it asks for {error}, but only plain containers and numpy arrays are read; it is no "
            "GaussianFormer info file, or one that tries to run code"
        ) from error
    except DumpError as error:
        raise DumpError(f"info file {path}: {error}") from error
    # A foreign file can break the unpickler in any way.
    except Exception as error:
        raise DumpError(f"info file {path} cannot be read: {type(error).__name__}: {error}") from error


def tokens_in_order(path: Path) -> list[str]:
    """Sample tokens in the order in which GaussianFormer's data set walks an info file.

    That order is the scene token followed by the frame index, zero-padded to three digits, as text.

    Raises:
      DumpError: the file is no info file.
    """
    loaded = load_plain_pickle(path)
    try:
        # As text, because the data set sorts them so: 1000 would come before 999.
        frames = [(_text(scene), int(frame)) for scene, frame in loaded["metadata"]]
        frames.sort(key=lambda frame: f"{frame[0]}{frame[1]:03d}")
        return [_text(loaded["infos"][scene][frame]["token"]) for scene, frame in frames]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DumpError(
            f"info file {path} must hold infos {{scene token: [info with token, ...]}} and metadata [(scene token, "
            f"frame index), ...]; {type(error).__name__}: {error}"
        ) from error


def _text(value: object) -> str:
    # The text of lists of lists, each twice in the next, would fill the memory.
    if not isinstance(value, str):
        raise TypeError(f"{reprlib.repr(value)} is no text")
    return value
