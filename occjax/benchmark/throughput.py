"""Samples per second of the whole loader with 1, 2, ... worker processes."""

import dataclasses
import logging
import os
import time
from typing import NamedTuple

import jax
import numpy as np

from occjax.config import Config
from occjax.data.index import Index
from occjax.data.pipeline import make_train_loader
from occjax.types import Batch

_SECONDS, _MIN_BATCHES = 8.0, 8
_log = logging.getLogger(__name__)


class Throughput(NamedTuple):
    """Samples per second by number of workers, and one batch that came out."""

    samples_per_s: dict[int, float]
    batch: Batch


def measure_throughput(config: Config, index: Index) -> Throughput:
    """Runs the training loader with powers of two up to the cores of this machine, and with `data.workers`.

    Raises:
      DataError: files are absent or damaged, or a worker died.
    """
    cores = len(os.sched_getaffinity(0))
    counts = {1 << n for n in range(cores.bit_length())} | {cores, config.data.workers}
    measured = {}
    for workers in sorted(count for count in counts if count <= max(cores, config.data.workers)):
        _log.info("loader with %d worker processes", workers)
        data = dataclasses.replace(config.data, workers=workers)
        loader = make_train_loader(dataclasses.replace(config, data=data), index)
        try:
            # What was read ahead while the processes started does not count.
            for _ in range(1 + workers * config.data.prefetch):
                batch = next(loader)
            batches, start = 0, time.perf_counter()
            while batches < _MIN_BATCHES or time.perf_counter() - start < _SECONDS:
                batch = next(loader)
                batches += 1
            measured[workers] = batches * config.data.batch_size / (time.perf_counter() - start)
        finally:
            loader.close()
    return Throughput(measured, batch)


def bytes_per_sample(batch: Batch) -> int:
    """What goes to the device for each sample of a batch."""
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch)) // len(batch.sample_index)
