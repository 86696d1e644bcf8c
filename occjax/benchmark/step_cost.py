"""Cost of what the device does: transfer, forward pass, training step, and how long a step waits for its data."""

import logging
import time
from typing import NamedTuple

import jax
import numpy as np

from occjax.benchmark.inference import classes_program
from occjax.benchmark.timing import MIN_RUNS, median_wall_s
from occjax.config import Config
from occjax.data.index import Index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_train_loader
from occjax.system.mesh import make_mesh, put_batch, replicated
from occjax.train.feed import DeviceFeed
from occjax.train.learner import make_learner, random_state
from occjax.train.step import make_train_step
from occjax.types import Batch

# Long enough for the loader's queue to run dry where it is the slower one: 200 steps, or on slow devices half a minute.
_SECONDS, _MAX_STEPS = 30.0, 200
_log = logging.getLogger(__name__)


class StepCost(NamedTuple):
    """Seconds per batch.

    Attributes:
      transfer_s: host to device.
      forward_s: forward pass for evaluation.
      compile_s: of the training step.
      step_s: training step, its data being there.
      wait_s: that a step waits for its data while the loader runs beside it, mean over the steps.
      steps: how many were run, each with its data from the loader.
      peak_device_bytes: None where the device does not say.
    """

    transfer_s: float
    forward_s: float
    compile_s: float
    step_s: float
    wait_s: float
    steps: int
    peak_device_bytes: int | None


def measure_step(config: Config, index: Index, parts: Parts, host_batch: Batch) -> StepCost:
    """Compiles and runs what training runs, fed as training is."""
    mesh = make_mesh()
    transfer_s = median_wall_s(lambda: put_batch(host_batch, mesh), seconds=1.0)
    learner = make_learner(config, total_steps=1000)
    # Random weights cost what others do.
    state = jax.device_put(random_state(learner), replicated(mesh))
    batch = put_batch(host_batch, mesh)

    forward = classes_program(learner.student)
    _log.info("forward pass: compiling, then running")
    inputs = (state.params["student"], state.batch_stats, batch.rig, batch.images)
    forward_s = median_wall_s(lambda: forward(*inputs), seconds=_SECONDS / 4)
    del inputs  # the first step takes these arrays for its own

    _log.info("training step: compiling")
    start = time.perf_counter()
    step = make_train_step(learner, mesh).lower(state, batch).compile()
    compile_s = time.perf_counter() - start

    _log.info("training steps with %d loader processes beside them", config.data.workers)
    loader = make_train_loader(config, index, parts)
    feed = DeviceFeed(loader, mesh)
    waits, steps = [], []
    try:
        state, _ = jax.block_until_ready(step(state, next(feed).batch))  # warms up
        while len(steps) < MIN_RUNS or (sum(waits) + sum(steps) < _SECONDS and len(steps) < _MAX_STEPS):
            start = time.perf_counter()
            item = next(feed)
            waits.append(time.perf_counter() - start)
            state, _ = jax.block_until_ready(step(state, item.batch))
            steps.append(time.perf_counter() - start - waits[-1])
    finally:
        feed.close()
        loader.close()
    stats = jax.devices()[0].memory_stats() or {}
    return StepCost(
        transfer_s=transfer_s,
        forward_s=forward_s,
        compile_s=compile_s,
        step_s=float(np.median(steps)),
        wait_s=float(np.mean(waits)),
        steps=len(steps),
        peak_device_bytes=stats.get("peak_bytes_in_use"),
    )
