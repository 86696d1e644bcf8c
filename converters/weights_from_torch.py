"""PyTorch weights become ours: the original student into a workdir, torchvision's ResNet into backbone weights.

    python converters/weights_from_torch.py --kind=student --input=latest.pth --workdir=runs/imported
    python converters/weights_from_torch.py --kind=resnet --depth=50 --input=resnet50.pth --output=resnet50.npz

Files are read without importing torch and nothing in them is executed. Missing, unexpected and mis-shaped entries are
listed together, and then nothing is written.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from occjax.config import BackboneConfig, Config
from occjax.convert.torch_names import Entry, needs_no_counterpart, resnet_entries, student_entries
from occjax.convert.torch_zip import TensorRef, load_checkpoint, load_safetensors
from occjax.errors import UserError

# What a torchvision ResNet has beyond the backbone, and what data-parallel training puts before every name.
CLASSIFIER = ("fc.weight", "fc.bias")
WRAPPER_PREFIX = "module."


class WeightsMismatchError(UserError):
    """The entries of a weight file are not those of the model."""


def read_state_dict(path: Path, which: str | None) -> dict[str, TensorRef | np.ndarray]:
    """Name → tensor of a weight file; of a training checkpoint, its entry `which` (model_state or ema_state).

    Raises:
      WeightsMismatchError: the file holds no such entry, or something other than named tensors.
    """
    content = load_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    choices = [
        key
        for key in ("model_state", "ema_state", "state_dict", "model")
        if isinstance(content, dict) and key in content
    ]
    if choices:
        chosen = choices[0] if which is None else which
        if which is None and len(choices) > 1:
            print(f"took {chosen}; the file holds {', '.join(choices)}: choose with --state")
        if not isinstance(content.get(chosen), dict):
            raise WeightsMismatchError(f"{path} has no {chosen}; it has {', '.join(choices)}: choose with --state")
        content = content[chosen]
    if not isinstance(content, dict) or not all(isinstance(v, TensorRef | np.ndarray) for v in content.values()):
        kind = type(content).__name__
        raise WeightsMismatchError(f"{path}: expected a dict of named tensors, found {kind}; save model.state_dict()")
    if content and all(key.startswith(WRAPPER_PREFIX) for key in content):
        content = {key.removeprefix(WRAPPER_PREFIX): value for key, value in content.items()}
    return content


def convert(
    state_dict: dict[str, TensorRef | np.ndarray],
    entries: list[Entry],
    shapes: dict[tuple, tuple[int, ...]],
    tolerated: tuple[str, ...] = (),
) -> tuple[dict[tuple, np.ndarray], list[str]]:
    """Our arrays by path, and the names of the tolerated entries that were left out.

    Args:
      state_dict: their tensors by name.
      entries: the name map.
      shapes: shape of each of our arrays by path.
      tolerated: names that may be there though the map has no place for them.

    Raises:
      WeightsMismatchError: anything is missing, unexpected, of another shape or not finite; lists all of it.
    """
    by_name = {entry.theirs: entry for entry in entries}
    extras = [key for key in state_dict if key not in by_name]
    problems = [f"missing: {key}" for key in by_name if key not in state_dict]
    problems += [f"unexpected: {key}" for key in extras if key not in tolerated and not needs_no_counterpart(key)]
    arrays = {}
    for key, entry in by_name.items():
        if key not in state_dict:
            continue
        expected = entry.their_shape(shapes[entry.ours])
        if tuple(state_dict[key].shape) != expected:
            problems.append(f"shape: {key} is {tuple(state_dict[key].shape)}, the model needs {expected}")
            continue
        value = state_dict[key]
        array = value.array() if isinstance(value, TensorRef) else value
        if not np.isfinite(array).all():
            problems.append(f"values: {key} holds NaN or infinity")
        arrays[entry.ours] = entry.from_torch(array)
    if problems:
        lines = "\n  ".join(problems)
        raise WeightsMismatchError(
            f"{len(problems)} entries do not fit the model, nothing was written:\n  {lines}\n"
            "choose the --kind, --depth and --state that the file was saved from"
        )
    return arrays, extras


def student_config() -> Config:
    """The original's configuration."""
    from configs import original

    return original.get_config()


def student_trees(config: Config, state_dict, tolerated: tuple[str, ...] = ()):
    """The student's parameters and batch statistics (nested dicts) from `state_dict`, and the extras left out."""
    from flax import nnx

    from occjax.models.student import Student, split_student

    model = nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    _, params, stats = split_student(model)
    shapes = {path: leaf.shape for tree in (params, stats) for path, leaf in flatten(tree).items()}
    arrays, extras = convert(state_dict, student_entries(config.model), shapes, tolerated)
    return fill(params, arrays), fill(stats, arrays), extras


def flatten(tree: dict, path: tuple = ()) -> dict[tuple, object]:
    """Leaves of nested dicts by path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {p: leaf for key, value in tree.items() for p, leaf in flatten(value, (*path, key)).items()}


def fill(tree: dict, arrays: dict[tuple, np.ndarray], path: tuple = ()):
    """`tree` with each leaf replaced by the array of its path."""
    if not isinstance(tree, dict):
        return arrays[path]
    return {key: fill(value, arrays, (*path, key)) for key, value in tree.items()}


def write_student(config: Config, params: dict, stats: dict, workdir: Path) -> Path:
    """A workdir at step 0 whose raw and averaged weights are both the imported ones; returns the checkpoint's path.

    Raises:
      WeightsMismatchError: the workdir holds a run already.
    """
    import jax
    import jax.numpy as jnp

    from occjax.run import workdir as run_folder
    from occjax.train.checkpoint import Checkpoints
    from occjax.train.learner import make_learner, random_state

    if workdir.exists() and any(workdir.iterdir()):
        raise WeightsMismatchError(f"{workdir} is not empty; name a new --workdir")
    learner = make_learner(config, total_steps=1)
    state = jax.jit(lambda: random_state(learner))()
    state = state.with_student(*jax.tree.map(jnp.asarray, (params, stats)))
    run_folder.claim(workdir, config)
    checkpoints = Checkpoints(workdir)
    checkpoints.save(0, state, {})
    checkpoints.close()
    return checkpoints.path(0)


def write_resnet(config: BackboneConfig, state_dict, output: Path) -> list[str]:
    """Backbone weights for `config.model.backbone.weights`; returns the entries that were left out."""
    from flax import nnx

    from occjax.models.resnet import ResNet, save_backbone_weights

    model = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    tree = nnx.to_pure_dict(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    shapes = {path: leaf.shape for path, leaf in flatten(tree).items()}
    arrays, extras = convert(state_dict, resnet_entries(config), shapes, CLASSIFIER)
    save_backbone_weights(output, arrays)
    return extras


def verify(config: Config, params: dict, stats: dict, stored: Path) -> bool:
    """Runs the student on the inputs stored in an .npz and prints how its outputs differ from those stored there.

    The file holds `images` [N, 3, H, W] or [N, H, W, 3] (normalised), `K` [N, 3, 3], `lidar2cam` [N, 4, 4], `img_aug`
    [N, 4, 4], `bda` [3, 3], and of the original's outputs `voxel_index` with `logits`, and/or `argmax`.
    """
    import jax
    from flax import nnx

    from occjax.models.student import Student, apply_student, split_student
    from occjax.types import CameraRig

    if not stored.is_file():
        raise WeightsMismatchError(f"no stored input {stored}; check --verify")
    data = np.load(stored, allow_pickle=False)
    needed = ("images", "K", "lidar2cam", "img_aug", "bda")
    missing = [key for key in needed if key not in data]
    if missing or ("logits" not in data and "argmax" not in data):
        raise WeightsMismatchError(f"{stored} lacks {', '.join(missing) or 'logits and argmax'}; see --help")
    images = data["images"] if data["images"].shape[-1] == 3 else data["images"].transpose(0, 2, 3, 1)
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
        print(f"logits of {len(x)} voxels: largest difference {difference.max():.2e}, mean {difference.mean():.2e}")
        ok &= bool(difference.max() <= 2e-2)
    if "argmax" in data:
        agreement = float(np.mean(logits.argmax(-1) == data["argmax"]))
        print(f"classes of {math.prod(data['argmax'].shape)} voxels: {100 * agreement:.4f} % agree")
        ok &= agreement >= 0.999
    print("verified" if ok else "NOT verified: differences beyond 2e-2 in the logits or 0.1 % of the classes")
    return ok


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True, choices=("student", "resnet"))
    parser.add_argument("--input", required=True, type=Path, help=".pth, .pt (zip format) or .safetensors")
    parser.add_argument("--state", choices=("model_state", "ema_state"), help="which weights of a training checkpoint")
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
    if args.verify and args.kind == "resnet":
        parser.error("--verify compares a student; leave it out with --kind=resnet")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        state_dict = read_state_dict(args.input, args.state)
        if args.kind == "resnet":
            extras = write_resnet(BackboneConfig(depth=args.depth), state_dict, args.output)
            written = args.output
        else:
            config = student_config()
            params, stats, extras = student_trees(config, state_dict)
            if args.verify and not verify(config, params, stats, args.verify):
                return 1
            written = write_student(config, params, stats, args.workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write {error.filename}: {error.strerror}; choose another place", file=sys.stderr)
        return 1
    counters = [key for key in extras if key.endswith("num_batches_tracked")]
    named = [key for key in extras if key not in counters]
    print(f"left out: {len(counters)} step counters{''.join(', ' + key for key in named)}")
    print(f"wrote {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
