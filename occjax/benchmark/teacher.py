"""Time of the teacher by stage, on whatever device there is, against what the stage cannot do without.

python -m occjax.benchmark.teacher --model=gs6400 [--weights=state_dict.pth] [--bfloat16]

Weights are random unless a checkpoint is given, images are noise, cameras those of the procedural city. A stage's floor
is its products and convolutions at the speed of a large product here, or its gathers at that of copying memory,
whichever takes longer; farthest points and splatting, which are neither, have none.
"""

import argparse
import functools
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from occjax.benchmark.flops import Work, work_of
from occjax.benchmark.timing import machine, peak_process_gib
from occjax.config import NUSCENES_CAMERAS
from occjax.convert.torch_weights import read_state_dict
from occjax.convert.torch_zip import TensorRef
from occjax.geometry import invert_rigid
from occjax.synthetic.rig import LIDAR, ego_from_sensor, pixel_from_cam
from occjax.system.command_line import Parser, say, show_log, status
from occjax.teacher import teacher as stages
from occjax.teacher.checkpoint import buffers
from occjax.teacher.draws import Draws, draws_for
from occjax.teacher.encoder import EncoderState, Scene
from occjax.teacher.preprocess import RECORDED_HEIGHT, RECORDED_WIDTH, cropped_from_lidar
from occjax.teacher.variants import VARIANTS, TeacherVariant, variant_named
from occjax.teacher.weight_parts import entries
from occjax.teacher.weight_tables import teacher as teacher_table

# By its full name: as a program, this module is called __main__.
_log = logging.getLogger("occjax.benchmark.teacher")
FLOOR = 1e-6  # of probabilities, before a logarithm


class StageCost(NamedTuple):
    """Seconds of one run after the first, processor time of all threads, and the first run with its compilation."""

    wall_s: float
    processor_s: float
    first_s: float
    work: Work


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
    parser = Parser("python -m occjax.benchmark.teacher", __doc__)
    parser.add_argument("--model", choices=VARIANTS, default="gs6400", help="which published configuration")
    parser.add_argument("--weights", type=Path, help="a checkpoint; random weights without one")
    parser.add_argument(
        "--bfloat16", action=argparse.BooleanOptionalAction, help="backbones in bfloat16 too, and what it changes"
    )
    args = parser.parse_args(argv)
    show_log()
    return status(functools.partial(run, args.model, args.weights, bool(args.bfloat16)))


def run(model: str, weights: Path | None, with_bfloat16: bool) -> int:
    """Measures and prints; raises UserError where the checkpoint is not that of the model."""
    variant = variant_named(model)
    arrays = random_arrays(variant) if weights is None else read_arrays(weights)
    images = np.random.default_rng(0).integers(0, 256, (6, RECORDED_HEIGHT, RECORDED_WIDTH, 3), np.uint8)
    matrices, draws = rig_matrices(), draws_for("benchmark", 0, variant)
    device = jax.devices()[0]
    flops_per_s, bytes_per_s = product_speed(), copy_speed()
    say(f"{model} on {device.device_kind}; {machine()}")
    say(f"large products {flops_per_s / 1e9:.0f} GFLOP/s, copies {bytes_per_s / 1e9:.0f} GB/s (read and written)")
    values = {}
    for dtype in ("float32", "bfloat16") if with_bfloat16 else ("float32",):
        teacher = stages.load_teacher(arrays, model, backbone_dtype=dtype)
        values[dtype], costs = measure(teacher, images, matrices, draws)
        say(f"\nbackbones in {dtype}")
        say(f"  {'stage':24s} {'wall':>9s} {'processor':>11s} {'floor':>9s} {'first run':>11s}")
        for name, cost in costs.items():
            floor = max(cost.work.flops / flops_per_s, cost.work.gathered_bytes / bytes_per_s)
            shown = f"{floor:7.2f} s" if floor else f"{'-':>9s}"
            say(f"  {name:24s} {cost.wall_s:7.2f} s {cost.processor_s:9.2f} s {shown} {cost.first_s:9.1f} s")
        total = sum(cost.wall_s for cost in costs.values())
        say(f"  {'one sample':24s} {total:7.2f} s {sum(c.processor_s for c in costs.values()):9.2f} s")
        say(f"  peak memory of this process {peak_process_gib():.2f} GiB")
    if with_bfloat16:
        say(f"\nKL of bfloat16 from float32, mean over voxels: {mean_kl(variant, *values.values()):.2e} nats")
    return 0


def measure(
    teacher: stages.Teacher, images: np.ndarray, pixel_from_lidar: np.ndarray, draws: Draws
) -> tuple[jax.Array, dict[str, StageCost]]:
    """The values of one sample, and what each stage took."""
    costs: dict[str, StageCost] = {}
    params, variant = teacher.params, teacher.variant

    def timed(name: str, function: Callable, *args, count: int = 1) -> Any:
        """Runs twice; `count` says how often one sample has this stage."""
        _log.info("%s: compiling, then running", name)
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        first = time.perf_counter() - start
        start, processor = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(function(*args))
        wall, processor = time.perf_counter() - start, time.process_time() - processor
        costs[name] = StageCost(count * wall, count * processor, first, work_of(function, *args).times(count))
        return result

    levels = timed("backbone, FPN", stages.look, params["images"], images[:1], count=len(images))
    levels = tuple(jnp.concatenate([x] * len(images)) for x in levels)
    matrices = cropped_from_lidar(pixel_from_lidar)
    anchors = params["anchors"]["stored"]
    if variant.version == 2:
        logits = timed("backbone, SECONDFPN", stages.look_for_depth, params["depth"], images[:1], count=len(images))
        logits = jnp.concatenate([logits] * len(images))
        inverse = np.linalg.inv(matrices.astype(np.float64)).astype(np.float32)
        lift = functools.partial(stages.lift_anchors, mode=teacher.depth_mode)
        anchors = timed("lifter", lift, params["anchors"], logits, inverse, *draws).anchors
    state = EncoderState(params["anchors"]["features"], anchors, jnp.zeros((), jnp.int32))
    scene = Scene(levels, jnp.asarray(matrices))
    for number, (operations, weights) in enumerate(zip(variant.stages, params["stages"], strict=True)):
        encode = functools.partial(
            stages.encode, operations, variant=variant, cameras_per_point=stages.CAMERAS_PER_POINT
        )
        state = timed(f"encoder, stage {number}", encode, weights, params["embedding"], state, scene)
    voxelize = functools.partial(stages.voxelize, variant=variant)
    values, _ = timed("splatting", voxelize, state.anchors, params.get("empty_value"))
    return values, costs


def random_arrays(variant: TeacherVariant) -> dict[str, np.ndarray]:
    """A checkpoint of random weights that keep features at their size, and Gaussians at any."""
    r = np.random.default_rng(0)

    def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
        if key.endswith("running_var"):
            return np.ones(shape, np.float32)
        if len(shape) == 1:
            # Small at the end of a block, so that 33 blocks add up to something of the size of one.
            size = 0.2 if ".bn3." in key else 1.0
            return np.full(shape, size if key.endswith(("weight", "scale")) else 0.0, np.float32)
        is_anchor = key.startswith("lifter.") and key.count(".") == 1
        fan = 8 * shape[-1] if len(shape) == 5 else np.prod(shape[1:])
        return r.standard_normal(shape, np.float32) * np.float32(1 if is_anchor else np.sqrt(2 / fan))

    return {key: draw(key, shape) for key, shape in entries(teacher_table(variant))} | buffers(variant)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All entries of a checkpoint."""
    state_dict = read_state_dict(path, None)
    return {key: value.array() if isinstance(value, TensorRef) else value for key, value in state_dict.items()}


def rig_matrices() -> np.ndarray:
    """pixel_from_lidar [6, 4, 4] of a car like that of nuScenes, standing still."""
    matrices = []
    for camera in NUSCENES_CAMERAS:
        pixel = np.eye(4)
        pixel[:3, :3] = pixel_from_cam(camera, RECORDED_WIDTH, RECORDED_HEIGHT)
        matrices.append(pixel @ invert_rigid(ego_from_sensor(camera)) @ ego_from_sensor(LIDAR))
    return np.stack(matrices)


def product_speed() -> float:
    """Floating-point operations per second of a large float32 product."""
    n = 2048
    a = jnp.ones((n, n))
    product = jax.jit(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    return 2 * n**3 / fastest(lambda: product(a, a))


def copy_speed() -> float:
    """Bytes per second, read and written, of a large array."""
    a = jnp.ones(1 << 26)
    copy = jax.jit(lambda x: x + 1)
    return 2 * a.nbytes / fastest(lambda: copy(a))


def fastest(function: Callable[[], jax.Array]) -> float:
    """Seconds of the fastest of three runs after the first."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        function().block_until_ready()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def mean_kl(variant: TeacherVariant, exact: jax.Array, rounded: jax.Array) -> float:
    """KL(exact | rounded) of distributions or logits, mean over voxels, nats."""
    if variant.value_kind == "logits":
        p, q = jax.nn.log_softmax(exact), jax.nn.log_softmax(rounded)
    else:
        p, q = (jnp.log(jnp.maximum(x, FLOOR)) for x in (exact, rounded))
    return float((jnp.exp(p) * (p - q)).sum(-1).mean())


if __name__ == "__main__":
    sys.exit(main())
