"""Time per stage, as medians over repeats, peak memory, and the processor that all this was measured on."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from occjax.cpu import processor_facts

# The fewest that have a median of their own.
MIN_RUNS = 3


class StageTimes:
    """Processor time of named stages: what a core spends, whatever else the machine does.

    Attributes:
      seconds: by stage, one entry per run.
    """

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}

    def run(self, name: str, function: Callable, *args) -> Any:
        """Calls `function(*args)` as a run of stage `name`."""
        start = time.process_time()
        result = function(*args)
        self.seconds.setdefault(name, []).append(time.process_time() - start)
        return result

    def median_ms(self, name: str) -> float:
        """Of a stage; 0 if it never ran."""
        return 1e3 * statistics.median(self.seconds.get(name, [0.0]))


def median_wall_s(run: Callable[[], object], *, seconds: float) -> float:
    """Median wall time of at least three runs over about `seconds`, after one that warms up; waits for the device."""
    # The first one compiles.
    jax.block_until_ready(run())
    times: list[float] = []
    while True:
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
        if len(times) >= MIN_RUNS and sum(times) > seconds:
            return statistics.median(times)


def peak_process_gib() -> float:
    """Largest memory of this process so far."""
    # Kilobytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> str:
    """Cores, model, widest vector instructions and load, without which no timing says much."""
    facts = processor_facts()
    model = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {model} ({vectors}), load {os.getloadavg()[0]:.1f}"
