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


def latencies(
    runs: Mapping[str, Callable[[], object]], *, frames: int = 100, seconds: float = 20.0
) -> dict[str, Latency]:
    """Percentiles of each of `runs`, which computes a frame and may return arrays that are on their way.

    They take turns of a tenth of the frames, so that whatever else the machine does meets all of them alike; the first
    frame of a turn, which finds caches and threads as the one before left them, does not count.

    Args:
      runs: by name.
      frames: of each; fewer where these would take more than `seconds` for each.
      seconds: likewise.
    """
    start = time.perf_counter()
    for run in runs.values():
        jax.block_until_ready(run())
    mean_s = (time.perf_counter() - start) / len(runs)
    frames = max(1, min(frames, round(seconds / mean_s)))
    turns = min(_TURNS, frames)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            for frame in range(1 + -(-frames // turns)):
                start = time.perf_counter()
                jax.block_until_ready(run())
                if frame:
                    taken[name].append(time.perf_counter() - start)
    percentiles = {name: 1e3 * np.percentile(values, (50, 99)) for name, values in taken.items()}
    return {name: Latency(float(p50), float(p99), len(taken[name])) for name, (p50, p99) in percentiles.items()}
