"""The table of `--mode=benchmark`: every measurement of a configuration, and what follows for the full dataset."""

import logging
import platform
import time

import jax
import numpy as np

from occjax.benchmark.disk import bytes_on_disk
from occjax.benchmark.distillation_cost import DistillationCost, measure_distillation
from occjax.benchmark.inference import measure_inference
from occjax.benchmark.loader_cost import TOTAL, LoaderCost, PathCost, measure_loader_cost
from occjax.benchmark.step_cost import StepCost, measure_step
from occjax.benchmark.throughput import Throughput, bytes_per_sample, measure_throughput
from occjax.benchmark.timing import StageTimes, machine, peak_process_gib
from occjax.config import Config
from occjax.data.index import SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.predict.images import NetworkInput
from occjax.storage import versions
from occjax.synthetic.tables import VERSION as SYNTHETIC_VERSION
from occjax.train.parts import training_parts

# What the rest is worked out for: nobody waits for an epoch to learn that it takes a week.
FULL_TRAIN, FULL_VAL = 28_130, 6_019  # keyframes of nuScenes' trainval
# Rows of the table of stages: what they are called, and the stages of either path that belong to them.
_STAGES = (
    ("images: decode, resize or warp", ("decode", "resize", "warp"), ("images",)),
    ("colours: distort, normalise", ("distort", "normalize"), ()),
    ("LiDAR to depth map", ("depth",), ("depth",)),
    ("labels", ("labels",), ("labels",)),
    ("teacher", ("teacher",), ("teacher",)),
)
_log = logging.getLogger(__name__)


def benchmark(config: Config) -> str:
    """Measures with the configuration's own data; takes a few minutes, most of them for the training step.

    Raises:
      UserError: the data are not there, or damaged.
    """
    started = time.perf_counter()
    index = load_index(config.data)
    split = index.split(config.data.train_split)
    parts = training_parts(config)
    _log.info("a sample on one core: the plain path and ours in turn, a minute")
    # Before anything is compiled: the processor time of jax's threads would count as the loader's.
    loader = measure_loader_cost(config, split, parts)
    throughput = measure_throughput(config, index, parts)
    lines = [
        f"configuration {config.name}: batch {config.data.batch_size}, grid {config.grid.build()}",
        *_machine(),
        "",
        *_loader_lines(loader),
        "",
        *_throughput_lines(throughput),
        f"bytes to the device {bytes_per_sample(throughput.batch) / 1e6:.2f} MB per sample",
    ]
    if parts.teacher:
        _log.info("distillation loss on the compact and on a dense teacher")
        lines += ["", *_distillation_lines(config, split, parts)]
    # Last, because what it compiles and allocates stays with the process.
    step = measure_step(config, index, parts, throughput.batch)
    lines += ["", *_step_lines(config, step)]
    lines += ["", *measure_inference(config, _frame(config, split))]
    _log.info("disk")
    lines += _full_lines(config, split, parts, throughput, step)
    return "\n".join([*lines, "", f"measured in {(time.perf_counter() - started) / 60:.1f} min"])


def _frame(config: Config, split: SplitIndex) -> NetworkInput:
    """The first sample as the predictor would prepare it."""
    sample = SampleReader(config, open_source(config.data, split, Parts()), augment=None)(0, np.random.default_rng(0))
    return NetworkInput(sample.images[None], jax.tree.map(lambda part: part[None], sample.rig))


def _loader_lines(cost: LoaderCost) -> list[str]:
    lines = ["one sample on one core, milliseconds of processor time (medians)"]
    lines += _path_lines("without geometric augmentation", cost.unaugmented)
    if cost.augmented is not None:
        lines += _path_lines("augmented as configured", cost.augmented)
    return lines


def _path_lines(title: str, cost: PathCost) -> list[str]:
    total = cost.ours.median_ms(TOTAL)

    def row(name: str, plain: float, ours: float) -> str:
        of_plain = "-" if cost.plain is None else f"{plain:.1f}"
        return f"  {name:33s} {of_plain:>12s} {ours:8.1f} {100 * ours / total:5.0f}%"

    def sum_ms(stages: StageTimes | None, names: tuple[str, ...]) -> float:
        return 0.0 if stages is None else float(sum(map(stages.median_ms, names)))

    figures = [(sum_ms(cost.plain, plain), sum_ms(cost.ours, ours)) for _, plain, ours in _STAGES]
    totals = (sum_ms(cost.plain, (TOTAL,)), total)
    # The total is timed by itself, so that no stage can be forgotten.
    rest = [max(whole - sum(part), 0.0) for whole, part in zip(totals, zip(*figures, strict=True), strict=True)]
    lines = [f"  {title:33s} {'plain path':>12s} {'ours':>8s}  share"]
    lines += [row(name, *figure) for (name, _, _), figure in zip(_STAGES, figures, strict=True)]
    lines += [row("rest: record, grid's map, arrays", *rest), row("total", *totals)]
    if cost.plain is not None:
        lowest, mean = cost.psnr_db
        lines.append(f"  the plain path takes {cost.ratio:.1f} times as long for the same sample")
        lines.append(f"  our images against the plain path's: PSNR {mean:.1f} dB, at least {lowest:.1f} dB")
    return lines


def _throughput_lines(throughput: Throughput) -> list[str]:
    # Of the fewest processes, which have the machine to themselves.
    single = throughput.samples_per_s[min(throughput.samples_per_s)] / max(min(throughput.samples_per_s), 1)
    lines = ["loader processes    samples/s    each    of linear    processor time per sample, all processes"]
    for workers, rate in throughput.samples_per_s.items():
        each, processor_ms = rate / max(workers, 1), 1e3 * throughput.processor_s[workers]
        share = f"{100 * each / single:.0f}%"
        lines.append(f"  {workers or 'none':>14} {rate:12.1f} {each:7.1f} {share:>12s} {processor_ms:12.1f} ms")
    return lines


def _distillation_lines(config: Config, split: SplitIndex, parts: Parts) -> list[str]:
    source = open_source(config.data, split, parts)
    teacher = SampleReader(config, source, augment=None)(0, np.random.default_rng(0)).teacher
    if teacher is None or teacher.voxels is None:
        return ["distillation loss: the teacher holds BEV maps only, which are small as they are"]
    costs = measure_distillation(config, teacher)
    compact, dense = costs["compact"], costs["dense"]

    def row(name: str, cost: DistillationCost) -> str:
        return (
            f"  {name:8s} {cost.teacher_bytes / 1e6:8.1f} MB {cost.working_bytes / 1e6:14.0f} MB "
            f"{1e3 * cost.wall_s:10.0f} ms {1e3 * cost.processor_s:10.0f} ms"
        )

    # Both compute one loss: the difference is what rounding leaves.
    apart = max(abs(compact.terms[name] / dense.terms[name] - 1) for name in dense.terms)
    return [
        "distillation loss and its gradient, one sample",
        f"  {'teacher':8s} {'itself':>11s} {'working memory':>17s} {'wall':>13s} {'processor':>13s}",
        row("compact", compact),
        row("dense", dense),
        f"  their terms {', '.join(dense.terms)} differ by at most {apart:.1e} of their value",
    ]


def _step_lines(config: Config, step: StepCost) -> list[str]:
    size = config.data.batch_size
    lines = [
        f"host to device     {1e3 * step.transfer_s / size:10.2f} ms/sample",
        f"forward pass       {1e3 * step.forward_s / size:10.1f} ms/sample",
        f"training step      {1e3 * step.step_s:10.1f} ms for {size} samples, {size / step.step_s:.2f} samples/s",
        f"compiling the step {step.compile_s:10.1f} s",
        f"a step waits for its data {1e3 * step.wait_s:.1f} ms, {100 * step.wait_s / (step.wait_s + step.step_s):.1f}% "
        f"of the time, over {step.steps} steps with {config.data.workers} loader processes",
        f"peak memory of this process {peak_process_gib():.2f} GiB",
    ]
    if step.peak_device_bytes is not None:
        lines.append(f"peak memory of a device {step.peak_device_bytes / 2**30:.2f} GiB")
    return lines


def _full_lines(config: Config, split: SplitIndex, parts: Parts, throughput: Throughput, step: StepCost) -> list[str]:
    # Pictures of another size than nuScenes' say nothing of its disk.
    if config.data.version == SYNTHETIC_VERSION:
        return []
    size, rate = config.data.batch_size, throughput.samples_per_s[config.data.workers]
    # Whichever is slower, the step with its waiting or the loader alone.
    epoch_h = FULL_TRAIN * max((step.step_s + step.wait_s) / size, 1 / rate) / 3600
    validation_h = FULL_VAL * max(step.forward_s / size, 1 / rate) / 3600
    lines = [
        "",
        f"nuScenes in full, {FULL_TRAIN} + {FULL_VAL} keyframes, from these figures",
        f"  one epoch of training {epoch_h:.1f} h, the loader alone {FULL_TRAIN / rate / 3600:.1f} h; "
        f"forward passes of a validation {validation_h:.1f} h",
    ]
    total = FULL_TRAIN + FULL_VAL
    files = bytes_on_disk(config.data, split, parts)
    listed = ", ".join(f"{name} {each * total / 1e9:.1f}" for name, each in files.items())
    together = sum(files.values())
    lines.append(f"  disk, GB: {listed}, together {together * total / 1e9:.1f}; {together / 1e6:.2f} MB per sample")
    return lines


def _machine() -> list[str]:
    devices = jax.devices()
    found = versions()
    return [
        f"machine: {machine()}; {len(devices)} × {devices[0].device_kind}",
        f"versions: Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in found.items()),
    ]
