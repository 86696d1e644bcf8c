"""Weights of PyTorch models: read by name, held against the model entry by entry, turned into our arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from occjax.command_line import say
from occjax.config import BackboneConfig, Config
from occjax.convert.torch_names import Entry, needs_no_counterpart, resnet_entries, student_entries
from occjax.convert.torch_zip import TensorRef, load_checkpoint, load_safetensors
from occjax.errors import UserError
from occjax.models.resnet import ResNet, save_backbone_weights
from occjax.models.student import Student, split_student

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
    content: Any = load_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    # As training scripts nest them, the plain weights before the averaged ones.
    choices = [
        key
        for key in ("model_state", "ema_state", "state_dict", "model")
        if isinstance(content, dict) and key in content
    ]
    if choices:
        chosen = choices[0] if which is None else which
        if which is None and len(choices) > 1:
            say(f"took {chosen}; the file holds {', '.join(choices)}: choose with --state")
        if not isinstance(content.get(chosen), dict):
            raise WeightsMismatchError(f"{path} has no {chosen}; it has {', '.join(choices)}: choose with --state")
        content = content[chosen]
    if not isinstance(content, dict) or not all(isinstance(v, TensorRef | np.ndarray) for v in content.values()):
        kind = type(content).__name__
        raise WeightsMismatchError(f"{path}: expected a dict of named tensors, found {kind}; save model.state_dict()")
    # All or none: a model may have a part that is called module.
    if content and all(key.startswith(WRAPPER_PREFIX) for key in content):
        content = {key.removeprefix(WRAPPER_PREFIX): value for key, value in content.items()}
    return content


def convert(
    model: nnx.Module,
    state_dict: dict[str, TensorRef | np.ndarray],
    entries: list[Entry],
    tolerated: tuple[str, ...] = (),
) -> tuple[list[dict[tuple, np.ndarray]], list[str]]:
    """Our parameters and batch statistics by path, and the names of the tolerated entries that were left out.

    Args:
      model: its shapes are what the arrays must have.
      state_dict: their tensors by name.
      entries: the name map.
      tolerated: names that may be there though the map has no place for them.

    Raises:
      WeightsMismatchError: anything is missing, unexpected, of another shape or not finite; lists all of it.
    """
    trees: list[dict] = [flatten_dict(tree) for tree in split_student(model)[1:]]
    shapes = {path: leaf.shape for tree in trees for path, leaf in tree.items()}
    by_name = {entry.theirs: entry for entry in entries}
    extras = [key for key in state_dict if key not in by_name]
    # Collected, because a wrong --depth would otherwise be found one entry at a time.
    problems = [f"missing: {key}" for key in by_name if key not in state_dict]
    problems += [f"unexpected: {key}" for key in extras if key not in tolerated and not needs_no_counterpart(key)]
    arrays = {}
    for key in [key for key in by_name if key in state_dict]:
        entry, value = by_name[key], state_dict[key]
        expected = entry.their_shape(shapes[entry.ours])
        # Before it is read: a checkpoint of another size may be a large one.
        if tuple(value.shape) != expected:
            problems.append(f"shape: {key} is {tuple(value.shape)}, the model needs {expected}")
            continue
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
    return [{path: arrays[path] for path in tree} for tree in trees], extras


def student_trees(config: Config, state_dict) -> tuple[dict, dict, list[str]]:
    """The student's parameters and batch statistics (nested dicts) from `state_dict`, and the extras left out."""
    model = nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    trees, extras = convert(model, state_dict, student_entries(config.model))
    params, stats = map(unflatten_dict, trees)
    return params, stats, extras


def state_dict_of(config: Config, params: dict, stats: dict) -> dict[str, np.ndarray]:
    """The original's `state_dict` of a student: what `student_trees` reads, without the step counters.

    Raises:
      WeightsMismatchError: the student has parts that the original lacks.
    """
    leaves = {**flatten_dict(params), **flatten_dict(stats)}
    entries = student_entries(config.model)
    foreign = sorted(".".join(map(str, path)) for path in set(leaves) ^ {entry.ours for entry in entries})
    # BatchNorm over the camera numbers is an entry that the original cannot do without.
    if foreign or config.model.depth.camera_norm != "batch":
        parts = ", ".join(foreign[:5]) or f"model.depth.camera_norm={config.model.depth.camera_norm}"
        raise WeightsMismatchError(
            f"this student is not of the PyTorch original's architecture ({parts}), so it has no state dict "
            "there; runs of configs/original.py have one"
        )
    return {entry.theirs: entry.to_torch(np.asarray(leaves[entry.ours])) for entry in entries}


def write_resnet(config: BackboneConfig, state_dict, output: Path) -> list[str]:
    """Backbone weights for `config.model.backbone.weights`; returns the entries that were left out."""
    model = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    (params, stats), extras = convert(model, state_dict, resnet_entries(config), CLASSIFIER)
    save_backbone_weights(output, params | stats)
    return extras
