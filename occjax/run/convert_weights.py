"""PyTorch weights become ours: the original student into a workdir, torchvision's ResNet into backbone weights.

occjax convert-weights --kind=student --input=latest.pth --workdir=runs/imported
occjax convert-weights --kind=resnet --depth=50 --input=resnet50.pth --output=resnet50.npz

Files are read without importing torch and nothing in them is executed. Missing, unexpected and mis-shaped entries are
listed together, and then nothing is written.
"""

import argparse
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from occjax.classes import NUM_CLASSES
from occjax.config import BackboneConfig, Config
from occjax.convert.torch_weights import WeightsMismatchError, read_state_dict, student_trees, write_resnet
from occjax.errors import DataError
from occjax.models.student import Student, apply_student, split_student
from occjax.npz import read_npz
from occjax.run import workdir as run_folder
from occjax.run.initialisation import Initialisation, of_file
from occjax.run.overrides import load_config_file
from occjax.system.command_line import Parser, say, status
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import make_learner, random_state
from occjax.types import CameraRig


def main(arguments: list[str] | None = None) -> int:
    """Converts as the options say; returns the exit status, 1 where --verify finds other outputs."""
    options = _parse(arguments)
    return status(lambda: _convert(options))


def _convert(options: argparse.Namespace) -> int:
    try:
        state_dict = read_state_dict(options.input, options.state)
        if options.kind == "resnet":
            extras = write_resnet(BackboneConfig(depth=options.depth), state_dict, options.output, options.prefix)
            written = options.output
            use = f"--config.model.backbone.weights={written} --config.model.backbone.depth={options.depth}"
        else:
            config = load_config_file(options.config)
            params, stats, extras = student_trees(config, state_dict, options.prefix)
            # Before anything is written: weights that compute something else are no import.
            if options.verify and not verify(config, params, stats, options.verify):
                return 1
            written = write_student(config, params, stats, options.workdir, of_file("student", options.input))
            use = f"occjax --mode=eval --workdir={options.workdir}, with --config.data.root=<nuScenes> where that moved"
    except OSError as error:
        raise WeightsMismatchError(f"cannot write {error.filename}: {error.strerror}; choose another place") from error
    # Dozens of them in every file, so they are counted and not named.
    counters = [key for key in extras if key.endswith("num_batches_tracked")]
    named = [key for key in extras if key not in counters]
    say(f"left out: {len(counters)} step counters{''.join(', ' + key for key in named)}")
    say(f"wrote {written}")
    say(f"use it: {use}")
    return 0


def write_student(config: Config, params: dict, stats: dict, workdir: Path, source: Initialisation) -> Path:
    """A workdir at step 0 whose raw and averaged weights are both the imported ones; returns the checkpoint's path.

    config.json says that they are of `source`.

    Raises:
      WeightsMismatchError: the workdir holds a run already.
    """
    # A run in there would be resumed with weights that it never had.
    if workdir.exists() and any(workdir.iterdir()):
        raise WeightsMismatchError(f"{workdir} is not empty; name a new --workdir")
    learner = make_learner(config, total_steps=1)
    state = jax.jit(lambda: random_state(learner))()
    # The averages too: evaluation reads them by default, and there is only one set of weights.
    state = state.with_student(*jax.tree.map(jnp.asarray, (params, stats)))
    run_folder.open_workdir(workdir, config, imported=source)
    checkpoints = Checkpoints(workdir)
    checkpoints.save(0, state, {})
    checkpoints.close()
    return checkpoints.path(0)


def verify(config: Config, params: dict, stats: dict, stored: Path) -> bool:
    """Runs the student on the inputs stored in an .npz and prints how its outputs differ from those stored there.

    The file holds `images` [N, 3, H, W] or [N, H, W, 3] (normalised), `K` [N, 3, 3], `lidar2cam` [N, 4, 4], `img_aug`
    [N, 4, 4], `bda` [3, 3], and of the original's outputs `voxel_index` with `logits`, and/or `argmax`.
    """
    if not stored.is_file():
        raise WeightsMismatchError(f"no stored input {stored}; check --verify")
    try:
        data = read_npz(stored)
    except (DataError, OSError) as error:
        raise WeightsMismatchError(f"stored input {stored} cannot be read: {error}; store it again") from error
    needed = ("images", "K", "lidar2cam", "img_aug", "bda")
    missing = [key for key in needed if key not in data]
    if missing or ("logits" not in data and "argmax" not in data):
        raise WeightsMismatchError(f"{stored} lacks {', '.join(missing) or 'logits and argmax'}; see --help")
    _require_shapes(config, data, stored)
    images = data["images"] if data["images"].shape[-1] == 3 else data["images"].transpose(0, 2, 3, 1)
    # Theirs act on homogeneous points with a depth; ours on pixels alone.
    affine = np.tile(np.eye(3, dtype=np.float32), (len(images), 1, 1))
    affine[:, :2, :2], affine[:, :2, 2] = data["img_aug"][:, :2, :2], data["img_aug"][:, :2, 3]
    arrays = (data["K"], data["lidar2cam"], affine, data["bda"], np.ones(len(images), bool))
    rig = CameraRig(*(array[None] for array in arrays))
    graphdef, _, _ = split_student(nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0))))
    run = jax.jit(lambda p, s, i, r: apply_student(graphdef, p, s, i, r, train=False)[0].voxel_logits)
    logits = np.asarray(run(params, stats, images[None].astype(np.float32), rig))[0]
    ok = True
    if "logits" in data:
        x, y, z = data["voxel_index"].T
        difference = np.abs(logits[x, y, z] - data["logits"])
        say(f"logits of {len(x)} voxels: largest difference {difference.max():.2e}, mean {difference.mean():.2e}")
        # float32 sums in another order differ by 1e-4 at most; a layer that is wrong, by whole numbers.
        ok &= bool(difference.max() <= 2e-2)
    if "argmax" in data:
        agreement = float(np.mean(logits.argmax(-1) == data["argmax"]))
        say(f"classes of {math.prod(data['argmax'].shape)} voxels: {100 * agreement:.4f} % agree")
        ok &= agreement >= 0.999
    say("verified" if ok else "NOT verified: differences beyond 2e-2 in the logits or 0.1 % of the classes")
    return ok


def _require_shapes(config: Config, data: dict[str, np.ndarray], stored: Path) -> None:
    """Raises WeightsMismatchError where stored inputs and outputs are not of the shapes that `verify` names."""
    count = len(data["images"]) if data["images"].ndim == 4 else -1
    rows = len(data["voxel_index"]) if "voxel_index" in data and data["voxel_index"].ndim else -1
    shapes = {
        **{"K": (count, 3, 3), "lidar2cam": (count, 4, 4), "img_aug": (count, 4, 4), "bda": (3, 3)},
        **{"voxel_index": (rows, 3), "logits": (rows, NUM_CLASSES), "argmax": config.grid.build().shape},
    }
    wrong = [
        f"{name} {data[name].shape}, not {shape}"
        for name, shape in shapes.items()
        if name in data and data[name].shape != shape
    ]
    if wrong:
        raise WeightsMismatchError(f"{stored} holds images {data['images'].shape}, {', '.join(wrong)}; see --help")


def _parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("occjax convert-weights", __doc__)
    parser.add_argument("--kind", required=True, choices=("student", "resnet"))
    parser.add_argument("--input", required=True, type=Path, help=".pth, .pt (zip format) or .safetensors")
    parser.add_argument("--state", help="entry of a training checkpoint that holds the weights, such as ema_state")
    parser.add_argument(
        "--prefix", help="part of a larger model, such as img_backbone.; found by itself where one part has all names"
    )
    parser.add_argument("--config", help="student: configuration file of its sizes; default: original")
    parser.add_argument("--workdir", type=Path, help="student: new folder for the imported run")
    parser.add_argument("--output", type=Path, help="resnet: .npz to write")
    parser.add_argument("--depth", type=int, default=50, choices=(18, 34, 50), help="resnet: number of layers")
    parser.add_argument(
        "--verify",
        type=Path,
        help="student: .npz to run and compare with. Inputs: images [N,3,H,W] or [N,H,W,3] (normalised), K [N,3,3], "
        "lidar2cam [N,4,4], img_aug [N,4,4], bda [3,3]. The original's outputs: voxel_index [n,3] with logits [n,K], "
        "argmax [X,Y,Z], or both",
    )
    args = parser.parse_args(arguments)
    needed = {"student": "workdir", "resnet": "output"}[args.kind]
    if getattr(args, needed) is None:
        parser.error(f"--kind={args.kind} needs --{needed}")
    for name in ("verify", "config"):
        if getattr(args, name) and args.kind == "resnet":
            parser.error(f"--{name} belongs to a student; leave it out with --kind=resnet")
    args.config = args.config or "original"
    return args
