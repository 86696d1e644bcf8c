"""Transfer of a batch from a loader process: as two arrays, not fifteen, since each costs a file of shared memory."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from occjax.data.substitutes import ReadBatch

_ALIGNMENT = 64


class FlatBatch(NamedTuple):
    """What crosses between processes.

    Attributes:
      images: of the batch; by far its largest array, so it travels as it is.
      rest: uint8, the bytes of all others.
      layout: the batch with a `_Slot` in place of each of those.
      unreadable: as in ReadBatch.
    """

    images: np.ndarray
    rest: np.ndarray
    layout: Any
    unreadable: dict[int, str]


@dataclasses.dataclass(frozen=True)
class _Slot:
    start: int
    dtype: str
    shape: tuple[int, ...]


def flatten(read: ReadBatch) -> FlatBatch:
    """What the loader process hands over."""
    arrays: list[tuple[int, np.ndarray]] = []
    size = 0

    def place(array) -> _Slot:
        nonlocal size
        array = np.asarray(array)
        slot = _Slot(size, array.dtype.str, array.shape)
        arrays.append((size, array))
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        return slot

    layout = _map(place, read.batch._replace(images=None))
    rest = np.empty(size, np.uint8)
    for start, array in arrays:
        rest[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return FlatBatch(read.batch.images, rest, layout, read.unreadable)


def restore(flat: FlatBatch) -> ReadBatch:
    """What the process that takes it works with: a copy, so that the shared memory is free again at once."""
    rest = np.array(flat.rest)

    def cut(slot: _Slot) -> np.ndarray:
        return np.ndarray(slot.shape, slot.dtype, rest, slot.start)

    batch = _map(cut, flat.layout)
    return ReadBatch(batch._replace(images=np.array(flat.images)), flat.unreadable)


def _map(function, element):
    if element is None:
        return None
    if isinstance(element, tuple):
        return type(element)(*(_map(function, part) for part in element))
    return function(element)
