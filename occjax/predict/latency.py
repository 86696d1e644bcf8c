"""Latency of several ways to compute one frame, measured in one run."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

_TURNS = 10


class Latency(NamedTuple):
    """Wall time of a frame, milliseconds.

    Attributes:
      p50_ms, p99_ms: percentiles.
      frames: of how many.
    """

    p50_ms: float
    p99_ms: float
    frames: int


def latencies(runs: Mapping[str, Callable[[], object]], *, frames: int = 100) -> dict[str, Latency]:
    """Percentiles of each of `runs`, which computes a frame and may return arrays that are on their way.

    They take turns of a tenth of the frames, so that whatever else the machine does meets all of them alike; the first
    frame of a turn, which finds caches and threads as the one before left them, does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_TURNS):
        for name, run in runs.items():
            for frame in range(1 + -(-frames // _TURNS)):
                start = time.perf_counter()
                jax.block_until_ready(run())
                if frame:
                    seconds[name].append(time.perf_counter() - start)
    percentiles = {name: 1e3 * np.percentile(values, (50, 99)) for name, values in seconds.items()}
    return {name: Latency(float(p50), float(p99), len(seconds[name])) for name, (p50, p99) in percentiles.items()}
