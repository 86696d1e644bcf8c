"""The feed hands over every batch in order, with the position after it, and every error."""

import signal
import time

import jax
import numpy as np
import pytest

from occjax.system.mesh import make_mesh
from occjax.system.stop_requests import StopRequested
from occjax.train.feed import DeviceFeed
from occjax.types import Batch, CameraRig


class Loader:
    """Batches whose sample index counts up; raises `error` after `count` of them."""

    def __init__(self, count, error=None):
        self.count, self.error, self.done = count, error, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.done == self.count:
            raise self.error or StopIteration
        self.done += 1
        rig = CameraRig(*(np.zeros((4, 1), np.float32) for _ in range(5)))
        return Batch(
            np.zeros((4, 1), np.uint8), rig, None, None, None, np.full(4, self.done, np.int32), np.ones(4, bool)
        )

    def get_state(self):
        return {"done": self.done}


class Stalled(Loader):
    """A loader that hands out nothing any more."""

    def __next__(self):
        time.sleep(0.5)
        return super().__next__()


def test_who_waits_for_a_stalled_loader_hears_a_request_to_stop():
    feed = DeviceFeed(Stalled(1), make_mesh(), lambda: signal.SIGTERM)
    started = time.monotonic()
    with pytest.raises(StopRequested):
        next(feed)
    assert time.monotonic() - started < 0.4
    feed.close()


def test_order_positions_and_devices():
    feed = DeviceFeed(Loader(5), make_mesh())
    fed = list(feed)
    assert [f.sample_index[0] for f in fed] == [1, 2, 3, 4, 5]
    assert [f.position["done"] for f in fed] == [1, 2, 3, 4, 5]
    assert len(fed[0].batch.images.sharding.device_set) == len(jax.devices())
    feed.close()


def test_errors_of_the_loader_arrive():
    feed = DeviceFeed(Loader(1, ValueError("truncated file")), make_mesh())
    next(feed)
    with pytest.raises(ValueError, match="truncated file"):
        next(feed)
    feed.close()


def test_close_ends_a_thread_that_is_ahead():
    feed = DeviceFeed(Loader(10**9), make_mesh())
    next(feed)
    feed.close()
    assert not feed._thread.is_alive()
