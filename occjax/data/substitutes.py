"""What stands in for a training sample that cannot be read: the next readable one, the same in every run."""

import logging
from typing import NamedTuple

import numpy as np

from occjax.data.samples import SampleReader
from occjax.errors import DataError, SampleError
from occjax.types import Batch

_log = logging.getLogger(__name__)


class ReadBatch(NamedTuple):
    """What loader processes hand over.

    Attributes:
      batch: a sample or a batch of samples.
      unreadable: by row, why a sample could not be read, for all that others stand in for.
    """

    batch: Batch
    unreadable: dict[int, str]


class SubstitutingReader:
    """A SampleReader that goes on to the next row of the split where a sample cannot be read.

    Which row that is depends on the files alone, not on process, worker or position in the run, so that batches keep
    their shape and a resumed run sees the same ones. `Batch.sample_index` names the substitute.
    """

    def __init__(self, reader: SampleReader, rows: int, max_skipped: int):
        """`rows` of the split; no more than `max_skipped` are passed over at a time, and 0 raises the first error."""
        self._reader, self._rows, self._max_skipped = reader, rows, max_skipped

    def __call__(self, row: int, rng: np.random.Generator) -> ReadBatch:
        """Row `row` or its substitute.

        Raises:
          SampleError: it cannot be read, and none may be skipped.
          DataError: too many rows in succession cannot be read.
        """
        unreadable: dict[int, str] = {}
        state = rng.bit_generator.state
        while True:
            # The neighbour, mostly of the same scene: the mix of scenes stays as it was.
            candidate = (row + len(unreadable)) % self._rows
            # The augmentation belongs to the position, however far reading got before.
            rng.bit_generator.state = state
            try:
                return ReadBatch(self._reader(candidate, rng), unreadable)
            except SampleError as error:
                if not self._max_skipped:
                    raise
                unreadable[candidate] = str(error)
            require_few(unreadable, min(self._max_skipped, self._rows - 1))


class SkipLog:
    """The distinct samples that a loader has skipped so far.

    Attributes:
      reasons: by row of the split; each was logged once.
    """

    def __init__(self, max_skipped: int):
        self.reasons: dict[int, str] = {}
        self._max_skipped = max_skipped

    def add(self, unreadable: dict[int, str]) -> None:
        """Takes note of samples; raises DataError when there are more than `max_skipped` of them."""
        for row, reason in unreadable.items():
            # In every epoch the same samples fail: once in the log is enough.
            if row not in self.reasons:
                self.reasons[row] = reason
                _log.warning("skipped sample %d (at most %d): %s", len(self.reasons), self._max_skipped, reason)
        require_few(self.reasons, self._max_skipped)


def require_few(unreadable: dict[int, str], limit: int) -> None:
    """Raises DataError that names the unreadable samples if there are more than `limit`."""
    if len(unreadable) > limit:
        listed = "\n".join(f"  {reason}" for reason in list(unreadable.values())[-5:])
        raise DataError(
            f"{len(unreadable)} training samples cannot be read, data.max_skipped allows {limit}; mend the files or "
            f"raise --config.data.max_skipped; the last ones:\n{listed}"
        )
