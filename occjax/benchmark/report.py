"""What this machine does with a configuration: loader, transfer, forward pass, training step and memory."""

import itertools
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from occjax.classes import OCC3D_CLASS_COUNTS
from occjax.config import Config
from occjax.data.index import load_index
from occjax.data.pipeline import make_train_loader
from occjax.models.preprocess import normalize_images
from occjax.models.student import apply_student
from occjax.train.mesh import make_mesh, put_batch, replicated
from occjax.train.state import initial_state, make_program
from occjax.train.step import make_train_step
from occjax.workdir import versions

_SECONDS = 20.0  # per measurement, at least
_MIN_RUNS = 3


def benchmark(config: Config) -> str:
    """Measures with real data of the configuration and returns a table.

    The loader is measured on its own, with nothing else running; the step on one batch that is on the device already.
    Medians over at least three runs, after one that warms up.
    """
    index = load_index(config.data)
    mesh = make_mesh()
    lines = [
        f"configuration {config.name}: batch {config.data.batch_size}, grid {config.grid.build()}",
        *_machine(),
        "",
    ]

    loader = make_train_loader(config, index)
    host_batch = next(loader)
    wait_s = _median_time(lambda: next(loader))
    loader.close()
    size = config.data.batch_size
    bytes_per_sample = sum(np.asarray(x).nbytes for x in jax.tree.leaves(host_batch)) / size
    lines += [
        f"loader, {config.data.workers} workers       {size / wait_s:10.2f} samples/s",
        f"bytes to the device       {bytes_per_sample / 1e6:10.2f} MB/sample",
    ]

    batch = put_batch(host_batch, mesh)
    transfer_s = _median_time(lambda: put_batch(host_batch, mesh))
    program, init = make_program(config, total_steps=1000)
    state = initial_state(config, init, replicated(mesh))

    @jax.jit
    def forward(params, batch_stats, images, rig):
        predictions, _ = apply_student(program.student, params, batch_stats, normalize_images(images), rig, train=False)
        return predictions.voxel_logits.argmax(-1).astype(jnp.uint8)

    inputs = (state.params["student"], state.batch_stats, batch.images, batch.rig)
    forward_s = _median_time(lambda: forward(*inputs))

    start = time.perf_counter()
    step = make_train_step(config, program, mesh, OCC3D_CLASS_COUNTS).lower(state, batch).compile()
    compile_s = time.perf_counter() - start
    holder = [state]
    del state, inputs

    def train_once():
        holder[0], metrics = step(holder[0], batch)
        return metrics

    step_s = _median_time(train_once)
    lines += [
        f"host to device            {1e3 * transfer_s / size:10.2f} ms/sample",
        f"forward pass              {1e3 * forward_s / size:10.1f} ms/sample",
        f"training step             {1e3 * step_s:10.1f} ms for {size} samples, {size / step_s:.2f} samples/s",
        f"compiling the step        {compile_s:10.1f} s",
        f"share of a step that waits for data, at best {100 * max(0.0, 1 - step_s / max(wait_s, step_s)):.0f}%",
        *_memory(),
    ]
    samples = len(index.split(config.data.train_split))
    hours = samples / size * max(step_s, wait_s) / 3600
    lines.append(f"one epoch of {samples} samples: {hours:.2f} h on this machine")
    return "\n".join(lines)


def _median_time(run: Callable[[], object]) -> float:
    jax.block_until_ready(run())
    times: list[float] = []
    for _ in itertools.count():
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
        if len(times) >= _MIN_RUNS and sum(times) > _SECONDS:
            return statistics.median(times)


def _machine() -> list[str]:
    devices = jax.devices()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    found = versions()
    return [
        f"machine: {len(os.sched_getaffinity(0))} cores of {model}; {len(devices)} × {devices[0].device_kind}",
        f"versions: Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in found.items()),
    ]


def _memory() -> list[str]:
    lines = [
        f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:9.2f} GiB",
    ]
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        lines.append(f"peak memory of the device  {stats['peak_bytes_in_use'] / 2**30:9.2f} GiB")
    return lines
