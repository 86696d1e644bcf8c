"""Transfer of a batch from a loader process: as two arrays, not fifteen, since each costs a file of shared memory."""

import pickle
from typing import NamedTuple

import numpy as np

from occjax.data.substitutes import ReadBatch


class FlatBatch(NamedTuple):
    """What crosses between processes.

    Attributes:
      images: uint8 [B, N, H, W, 3] of the batch; by far its largest array, so it travels as it is.
      rest: uint8 [bytes] of the pickled ReadBatch without images.
    """

    images: np.ndarray
    rest: np.ndarray


def flatten(read: ReadBatch) -> FlatBatch:
    """What the loader process hands over."""
    # Grain moves arrays through shared memory and all else through a pipe: bytes that are an array take the fast way.
    rest = pickle.dumps(read._replace(batch=read.batch._replace(images=None)), pickle.HIGHEST_PROTOCOL)
    return FlatBatch(read.batch.images, np.frombuffer(rest, np.uint8))


def restore(flat: FlatBatch) -> ReadBatch:
    """What the process that takes it works with: a copy, so that the shared memory is free again at once."""
    read = pickle.loads(flat.rest.data)  # bytes of our own making
    return read._replace(batch=read.batch._replace(images=np.array(flat.images)))
