"""Sample order from GaussianFormer's info pickle, read without running anything that is in it."""

import io
import pickle
from pathlib import Path

from occjax.teacher_dump.arrays import DumpError

# All that such a file needs: containers are built by opcodes, arrays by these.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
}


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, which old pickles build bytes with."""
    if encoding != "latin1":
        raise DumpError(f"it asks for the codec {encoding}, but only latin1 is read")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        if (module, name) not in _ALLOWED:
            raise DumpError(
                f"it asks for {module}.{name}, but only plain containers and numpy arrays are read; it is no "
                "GaussianFormer info file, or one that tries to run code"
            )
        # numpy renamed its private module; either spelling means the same function.
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def load_plain_pickle(path: Path):
    """Containers, numbers, strings and numpy arrays of a pickle.

    Raises:
      DumpError: absent, damaged, or it asks for anything else, which is named and not run.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
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
        frames = sorted(loaded["metadata"], key=lambda frame: f"{frame[0]}{int(frame[1]):03d}")
        return [str(loaded["infos"][scene][int(frame)]["token"]) for scene, frame in frames]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DumpError(
            f"info file {path} must hold infos {{scene token: [info with token, ...]}} and metadata [(scene token, "
            f"frame index), ...]; {type(error).__name__}: {error}"
        ) from error
