"""Samples per second of the whole loader with 1, 2, ... worker processes."""

import dataclasses
import logging
import multiprocessing
import os
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from occjax.config import Config
from occjax.data.index import Index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_train_loader
from occjax.types import Batch

_SECONDS, _MIN_BATCHES = 8.0, 8  # long enough for every worker to deliver more than once
_log = logging.getLogger(__name__)


class Throughput(NamedTuple):
    """The loader on its own, by number of workers.

    Attributes:
      samples_per_s: by the clock, so it falls with whatever else the machine does.
      processor_s: of all loader processes and this one, per sample; workers that hinder each other need more of it.
      batch: one that came out.
    """

    samples_per_s: dict[int, float]
    processor_s: dict[int, float]
    batch: Batch


def measure_throughput(config: Config, index: Index, parts: Parts) -> Throughput:
    """Runs the training loader with powers of two up to the cores of this machine, and with `data.workers`.

    Raises:
      DataError: files are absent or damaged, or a worker died.
    """
    cores = len(os.sched_getaffinity(0))
    # Powers of two show where adding processes stops paying; the configured number is what a run gets.
    counts = {1 << n for n in range(cores.bit_length())} | {cores, config.data.workers}
    samples_per_s, processor_s, batch = {}, {}, None
    for workers in sorted(count for count in counts if count <= max(cores, config.data.workers)):
        _log.info("the loader on its own, worker processes: %d", workers)
        data = dataclasses.replace(config.data, workers=workers)
        loader = make_train_loader(dataclasses.replace(config, data=data), index, parts)
        try:
            # What was read ahead while the processes started does not count.
            for _ in range(1 + workers * config.data.prefetch):
                batch = next(loader)
            batches, start, processor_start = 0, time.perf_counter(), _processor_s()
            while batches < _MIN_BATCHES or time.perf_counter() - start < _SECONDS:
                batch = next(loader)
                batches += 1
            samples = batches * config.data.batch_size
            samples_per_s[workers] = samples / (time.perf_counter() - start)
            processor_s[workers] = (_processor_s() - processor_start) / samples
        finally:
            loader.close()
    assert batch is not None
    return Throughput(samples_per_s, processor_s, batch)


def bytes_per_sample(batch: Batch) -> int:
    """What goes to the device for each sample of a batch."""
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch)) // len(batch.sample_index)


def _processor_s() -> float:
    """Processor time so far of this process and its children; of this one alone where /proc does not tell."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total
