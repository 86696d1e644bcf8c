"""Feed of the devices: batches arrive while the step before computes, each with the loader's position after it."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from occjax.system.mesh import put_batch
from occjax.system.stop_requests import StopRequested
from occjax.types import Batch

_AHEAD = 2  # batches on the device that no step has taken yet


class DeviceBatch(NamedTuple):
    """One batch, ready to compute on.

    Attributes:
      batch: global device arrays.
      sample_index: int32 [B] rows of this process's samples in the index, on the host.
      position: the loader's state after this batch, to be saved with the step that consumes it.
    """

    batch: Batch
    sample_index: np.ndarray
    position: dict


class DeviceFeed:
    """Iterator over DeviceBatch that runs the loader in a thread; whatever the loader raises is raised by `next`.

    `next` raises StopRequested while it waits, if `asked` gives a signal's number: the loader may be stalled for good.
    """

    def __init__(self, loader, mesh: Mesh, asked: Callable[[], int] = lambda: 0):
        self._asked = asked
        self._queue: queue.Queue = queue.Queue(maxsize=_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(loader, mesh), name="device-feed", daemon=True)
        self._thread.start()

    def _run(self, loader, mesh: Mesh) -> None:
        try:
            for batch in loader:
                item = DeviceBatch(put_batch(batch, mesh), np.asarray(batch.sample_index), loader.get_state())
                if not self._offer(item):
                    return
            self._offer(StopIteration())
        # Whatever it is, it is raised by `next`, which would wait for ever for a thread that died.
        except BaseException as error:
            self._offer(error)

    def _offer(self, item) -> bool:
        # Waits in short turns, since a full queue says nothing of a feed that was closed meanwhile.
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[DeviceBatch]:
        return self

    def __next__(self) -> DeviceBatch:
        while True:
            try:
                item = self._queue.get(timeout=0.1)
                break
            except queue.Empty:
                if number := self._asked():
                    raise StopRequested(number) from None
        if isinstance(item, BaseException):
            raise item
        return item

    @property
    def is_empty(self) -> bool:
        """Whether `next` would have to wait."""
        return self._queue.empty()

    def close(self) -> None:
        """Stops the thread after the batch it is loading, and lets go of the batches that no step has taken."""
        self._closed.set()
        self._thread.join(timeout=5)  # a loader that hangs must not keep the process from ending
        while not self._queue.empty():
            self._queue.get_nowait()
