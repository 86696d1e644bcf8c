"""Time per stage, as medians over repeats, peak memory, and the processor that all this was measured on."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from occjax.system.cpu import processor_facts

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


def resident_bytes() -> int | None:
    """Memory that this process holds at the moment; None where the system does not say.

    The largest so far would not do for a child process, which starts with its parent's.
    """
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def compiled_bytes(program: jax.stages.Compiled) -> int:
    """Memory of a compiled program: what goes in, comes out and is held in between; what is donated counts once."""
    memory = program.memory_analysis()
    assert memory is not None
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return held - memory.alias_size_in_bytes


def machine() -> str:
    """Cores, model, widest vector instructions, those for 8 bits, and load, without which no timing says much."""
    facts = processor_facts()
    model = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")
    # What integers are multiplied by; without them INT8 gains little.
    vectors = ", ".join([vectors, *(name for name in ("avx_vnni", "avx512_vnni", "amx_int8") if name in flags)])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {model} ({vectors}), load {os.getloadavg()[0]:.1f}"
