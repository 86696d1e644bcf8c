"""Accelerator: what training and prediction cost on it, in one call of ten minutes, without data and without network.

python -m occjax.benchmark.accelerator [--minutes=10] [--data-root=data/nuscenes [--teacher-dir=data/teacher]] [--small]

The network, the losses and their sizes are those of configs/kd.py; images are noise, weights are random. Parts come in
the order of what they tell; one that needs a package or data that is not there, or more time than is left, is skipped
by name. --small measures a small network, to see that all of it works.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from occjax.benchmark.inference import xla_batch
from occjax.benchmark.kernels import profiled_kernels, shares_by_kind
from occjax.benchmark.random_batch import random_batch
from occjax.benchmark.random_step import Step, measure_step, parts_to_leave_out, time_step
from occjax.benchmark.timing import machine
from occjax.config import Config, DistillConfig
from occjax.configs import kd
from occjax.errors import UserError
from occjax.predict.images import NetworkInput
from occjax.predict.latency import latencies
from occjax.predict.stored_weights import Weights
from occjax.storage import versions
from occjax.system.command_line import Parser, say, show_log, status
from occjax.train.learner import make_learner, random_state

DTYPES: tuple[Literal["bfloat16"], Literal["float32"]] = ("bfloat16", "float32")
BATCHES = (1, 4, 8, 16)
# Of the step that is looked into: kd.py's.
_BATCH = 4
_FRAMES = 300
_REPOSITORY = Path(__file__).resolve().parents[2]


class Clock:
    """Time that is left of the call."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes
        self.longest_s = 0.0  # of the parts so far: the next one may take as long

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[bool]:
        """Whether there is time for a part; says so where there is none, or where the device refuses it."""
        start = time.monotonic()
        if start + self.longest_s > self._end:
            say(f"  {name}: skipped, no time is left; give --minutes more")
            yield False
            return
        try:
            yield True
        except jax.errors.JaxRuntimeError as error:
            reason = "does not fit" if "RESOURCE_EXHAUSTED" in str(error) else str(error).splitlines()[0]
            say(f"  {name}: {reason}")
        self.longest_s = max(self.longest_s, time.monotonic() - start)


def main(argv: list[str] | None = None) -> int:
    """Prints every part as it is measured."""
    parser = Parser("python -m occjax.benchmark.accelerator", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long the call may take")
    parser.add_argument("--data-root", help="nuScenes, for steps beside their loader; skipped without it")
    parser.add_argument("--teacher-dir", help="its teacher files; without them these steps do not distil")
    parser.add_argument("--small", action=argparse.BooleanOptionalAction, help="a small network, batches of 1 and 2")
    arguments = parser.parse_args(argv)
    show_log()
    return status(
        functools.partial(run, arguments.minutes, arguments.data_root, arguments.teacher_dir, bool(arguments.small))
    )


def run(minutes: float, data_root: str | None, teacher_dir: str | None, small: bool) -> int:
    """Measures and prints; returns the exit status."""
    clock = Clock(minutes)
    # Before this process takes the device's memory.
    say(f"parity with the PyTorch reference, products at the highest precision: {parity()}")
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    say(f"{len(jax.devices())} × {jax.devices()[0].device_kind}; {machine()}; {found}")
    config, batches = (small_config(), (1, 2)) if small else (benchmark_config(), BATCHES)
    dtype, size = DTYPES[0], min(_BATCH, batches[-1])

    def measured(kind: Literal["float32", "bfloat16"], count: int) -> Step | None:
        with clock.part(name := f"{kind}, batch {count}") as is_time:
            if is_time:
                step = measure_step(config, kind, count)
                say(
                    f"  {name:22s} {1e3 * step.wall_s:9.1f} {count / step.wall_s:10.1f} "
                    f"{step.peak_bytes / 2**30:8.2f} GiB {step.compile_s:8.1f} s"
                )
                return step
        return None

    say("\ntraining step")
    say(f"  {'':22s} {'ms/step':>9s} {'samples/s':>10s} {'peak memory':>12s} {'compiling':>10s}")
    whole = measured(dtype, size)
    if whole is not None:
        say(f"\nkernels of that step: {profile(whole)}")
        say(f"\ntwo runs of three such steps: {repeated(whole)}")
    with clock.part("frames at batch 1") as is_time:
        if is_time:
            say(f"\nframes at batch 1: {latency(config)}\n")
    others = [(kind, count) for kind in DTYPES for count in batches if (kind, count) != (dtype, size)]
    for kind, count in others:
        measured(kind, count)
    if whole is not None:
        say(f"\nwhat a part costs: the step of {dtype}, batch {size}, without it")
        for name, without in parts_to_leave_out().items():
            with clock.part(name) as is_time:
                if is_time:
                    with without(config):
                        rest = measure_step(config, dtype, size)
                    # Beside the whole step of this moment: clocks and loads change over minutes.
                    whole_s = time_step(whole.program, whole.state, whole.batch)
                    taken_s = whole_s - rest.wall_s
                    say(f"  {name:22s} {1e3 * taken_s:9.1f} ms, {100 * taken_s / whole_s:.0f}%")
    with clock.part("steps on real data") as is_time:
        if is_time:
            say(f"\nsteps on real data: {real_steps(config, data_root, teacher_dir)}")
    return 0


def benchmark_config() -> Config:
    """configs/kd.py with random weights."""
    config = kd.get_config()
    config.model.backbone.weights = "random"
    return config


def small_config() -> Config:
    """`benchmark_config` with a smaller student, smaller images and the middle of the grid."""
    config = benchmark_config()
    config.grid.lower_m, config.grid.shape = (-8.0, -8.0, -5.0), (32, 32, 16)
    config.data.image_height, config.data.image_width = 64, 96
    model = config.model
    model.backbone.depth, model.backbone.width = 10, 8
    model.fpn_channels = model.depth.bins = model.depth.channels = model.view_transform.channels = 8
    model.bev_encoder.stage_channels, model.bev_encoder.blocks_per_stage = (8, 8), 1
    model.bev_encoder.neck_channels = model.bev_encoder.out_channels = model.head.channels = model.head.hidden = 8
    return config


def latency(config: Config) -> str:
    """Time from images on the host to classes on the host, frame by frame."""
    config.model.compute_dtype = "auto"
    weights = Weights(*random_state(make_learner(config, total_steps=1)).student("ema"), 0)
    batch = random_batch(config, 1)
    runtime = xla_batch(config, weights, NetworkInput(batch.images, batch.rig), 1)
    p50, p99, frames = latencies({"": runtime.run}, frames=_FRAMES, seconds=60.0)[""]
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms over {frames}, images and classes moved included"


def profile(step: Step) -> str:
    """Shares of the device's time by kind of kernel, over three steps."""
    shares = shares_by_kind(profiled_kernels(lambda: _three_steps(step)))
    if not shares:
        return "skipped, the profiler sees no device here"
    return "".join(f"\n  {kind:22s} {100 * share:5.1f}%" for kind, share in shares.items())


def repeated(step: Step) -> str:
    """Whether the same three steps from the same state give the same bits."""
    first, second = (jax.device_get(_three_steps(step)) for _ in range(2))
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    different = sum(not np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    return "bit-equal" if different == 0 else f"{different} of {len(pairs)} arrays differ"


def _three_steps(step: Step):
    # A copy, since the step takes what it is given for its own.
    state = jax.device_put(step.state, may_alias=False)
    for _ in range(3):
        state, _ = step.program(state, step.batch)
    return state


def real_steps(config: Config, data_root: str | None, teacher_dir: str | None) -> str:
    """Share of the time that steps wait for their data, on nuScenes, over 200 of them where half a minute is enough."""
    absent = [name for name in ("grain", "cv2", "nuscenes") if importlib.util.find_spec(name) is None]
    if absent or data_root is None:
        return f"skipped, {' and '.join(absent)} not installed" if absent else "skipped, no --data-root"
    from occjax.benchmark.step_cost import measure_step as measure_fed_step
    from occjax.data.index import load_index
    from occjax.data.pipeline import make_train_loader
    from occjax.train.parts import training_parts

    config.data.root, config.data.teacher_dir = data_root, teacher_dir or ""
    if teacher_dir is None:
        config.loss.distill = DistillConfig()
    config.model.compute_dtype = "auto"
    index, parts = load_index(config.data), training_parts(config)
    loader = make_train_loader(config, index, parts)
    try:
        batch = next(loader)
    finally:
        loader.close()
    cost = measure_fed_step(config, index, parts, batch)
    share = cost.wait_s / (cost.wait_s + cost.step_s)
    return (
        f"a step takes {1e3 * cost.step_s:.1f} ms and waits {100 * share:.1f}% of the time, over {cost.steps} steps "
        f"{'without' if teacher_dir is None else 'with'} a teacher"
    )


def parity() -> str:
    """What the committed goldens say of the student on this device; they lie in the repository, not in the package."""
    tests = _REPOSITORY / "tests" / "parity" / "test_random_golden.py"
    if not tests.is_file():
        return f"skipped, {tests} is not there"
    absent = [name for name in ("pytest", "jaxtyping", "beartype") if importlib.util.find_spec(name) is None]
    if absent:
        return f"skipped, {' and '.join(absent)} not installed"
    ask = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"], capture_output=True, text=True, check=False
    )
    if ask.returncode:
        raise UserError(f"jax finds no device: {ask.stderr.strip().splitlines()[-1]}")
    platform = ask.stdout.split()[-1].replace("gpu", "cuda")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": f"{platform},cpu" if platform != "cpu" else "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "OCCJAX_TESTS_AS_USERS": "1",
    }
    options = ["-q", "-o", "addopts=--import-mode=importlib -p no:cacheprovider", "--no-header", str(tests)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=_REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return (result.stdout.strip().splitlines() or result.stderr.strip().splitlines() or ["nothing said"])[-1]


if __name__ == "__main__":
    sys.exit(main())
