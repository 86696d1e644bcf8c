"""Kernels of a profile by kind, and the share of the device's time that each kind takes."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

# In this order: a fused kernel that scatters is named "input_scatter_fusion".
_KINDS = (
    ("convolutions", r"conv|cudnn|implicit|xmma_fprop|dgrad|wgrad"),
    ("products", r"gemm|dot|cublas|cutlass|matmul"),
    ("sorts", r"sort|radix"),
    ("scatters", r"scatter"),
    ("gathers", r"gather|dynamic.slice"),
    ("reductions", r"reduc|softmax"),
    ("copies and transposes", r"transpos|copy|memcpy|memset|concat"),
    ("loops over elements", r"fusion|loop|elementwise|wrapped"),
)


def kind_of(kernel: str) -> str:
    """The kind that a kernel's name says it is of."""
    return next((kind for kind, words in _KINDS if re.search(words, kernel.lower())), "other")


def shares_by_kind(kernels: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Share of time by kind, largest first, of (name, seconds) of every kernel that ran."""
    seconds: dict[str, float] = collections.defaultdict(float)
    for name, duration in kernels:
        seconds[kind_of(name)] += duration
    total = sum(seconds.values())
    return {kind: seconds[kind] / total for kind in sorted(seconds, key=lambda kind: -seconds[kind])}


def profiled_kernels(run: Callable[[], object]) -> list[tuple[str, float]]:
    """Name and seconds of every kernel that a device ran during `run`; empty where the profiler sees no device."""
    reader = jax.profiler.ProfileData
    if reader is None:  # jaxlib was built without
        return []
    with tempfile.TemporaryDirectory(prefix="occjax-profile-") as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        kernels = []
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in reader.from_file(str(path)).planes:
                if not plane.name.startswith("/device:"):
                    continue
                # Streams hold the kernels; other lines repeat their time by step, by module, by name.
                lines = [line for line in plane.lines if line.name.startswith(("Stream", "XLA Ops"))]
                kernels += [(event.name, event.duration_ns / 1e9) for line in lines for event in line.events]
        return kernels
