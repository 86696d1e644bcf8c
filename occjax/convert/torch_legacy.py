"""Checkpoints of the format before torch 1.6, which published weights still come in: pickles, then the numbers."""

import mmap
import reprlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from occjax.convert.foreign_pickle import load_pickle

# torch.serialization.MAGIC_NUMBER as such a file pickles it, behind the protocol-2 header.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001


class LegacyFile:
    """A file of five pickles one behind the other, of which the fourth is the content, and the storages behind them."""

    def __init__(self, path: Path):
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}  # of each storage: first byte and length

    def load(self, allowed: Mapping, item_size: Callable[[Any], tuple[str, int]], stored: Callable) -> Any:
        """The content, with the numbers left where they are.

        Args:
          allowed: stand-ins, see `load_pickle`.
          item_size: key of a storage and bytes of each of its numbers, of what `stored` returns.
          stored: stands in for a storage; called with its id.

        Raises:
          Exception: anything at all, for the file is hostile or broken.
        """
        sizes: dict[str, int] = {}

        def remembered(pid: Any) -> Any:
            record = stored(pid)
            key, size = item_size(record)
            sizes[key] = size
            return record

        with self.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
            load_pickle(file, {})  # the magic number, which the caller has seen
            protocol, system = load_pickle(file, {}), load_pickle(file, {})
            if protocol != _PROTOCOL or not system["little_endian"]:
                raise ValueError(f"not of protocol {_PROTOCOL}, or of a big-endian machine")
            content = load_pickle(file, allowed, remembered)
            keys = load_pickle(file, {})
            for key in keys:
                if not isinstance(key, str):
                    raise TypeError(f"the key of a storage is {reprlib.repr(key)}")
                (count,) = struct.unpack("<q", file.read(8))
                start, length = file.tell(), count * sizes[key]
                if count < 0 or start + length > file.size():
                    raise EOFError(f"storage {key} of {count} values reaches past the end of the file")
                self._places[key] = (start, length)
                file.seek(length, 1)
        if absent := sizes.keys() - self._places.keys():
            raise KeyError(f"storages {sorted(absent)} are not in the file")
        return content

    def read(self, name: str) -> bytes:
        """The bytes of a storage, `data/<key>`; raises OSError."""
        start, length = self._places[name.removeprefix("data/")]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


def bytes_of(dtype: str) -> int:
    """Of one number of a storage."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
