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


def student_trees(config: Config, state_dict, tolerated: tuple[str, ...] = ()):
    """The student's parameters and batch statistics (nested dicts) from `state_dict`, and the extras left out."""
    model = nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    trees = _flat_trees(model)
    arrays, extras = convert(state_dict, student_entries(config.model), _shapes(trees), tolerated)
    params, stats = (unflatten_dict({path: arrays[path] for path in tree}) for tree in trees)
    return params, stats, extras


def write_resnet(config: BackboneConfig, state_dict, output: Path) -> list[str]:
    """Backbone weights for `config.model.backbone.weights`; returns the entries that were left out."""
    model = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    arrays, extras = convert(state_dict, resnet_entries(config), _shapes(_flat_trees(model)), CLASSIFIER)
    save_backbone_weights(output, arrays)
    return extras


def _flat_trees(model: nnx.Module) -> list[dict]:
    """Parameters and batch statistics by path."""
    return [flatten_dict(tree) for tree in split_student(model)[1:]]


def _shapes(trees: list[dict]) -> dict[tuple, tuple[int, ...]]:
    return {path: leaf.shape for tree in trees for path, leaf in tree.items()}
