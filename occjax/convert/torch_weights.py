"""Weights of PyTorch models: read by name, held against the model entry by entry, turned into our arrays."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from occjax.config import BackboneConfig, Config
from occjax.convert.torch_names import Entry, needs_no_counterpart, resnet_entries, student_entries
from occjax.convert.torch_zip import TensorRef, load_checkpoint, load_safetensors
from occjax.errors import UserError
from occjax.models.resnet import ResNet, save_backbone_weights
from occjax.models.student import Student, split_student
from occjax.system.command_line import say

# What a torchvision ResNet has beyond the backbone.
CLASSIFIER = ("fc.weight", "fc.bias")
# What data-parallel training and torch.compile put before names, in any order and number.
WRAPPERS = ("module.", "_orig_mod.")
# As training scripts call the entry with the weights, the plain ones before the averaged.
_USUAL_ENTRIES = ("model_state", "ema_state", "state_dict", "model")
_SHOWN = 10  # mismatches of a kind

StateDict = dict[str, TensorRef | np.ndarray]


class WeightsMismatchError(UserError):
    """The entries of a weight file are not those of the model."""


def read_state_dict(path: Path, which: str | None) -> StateDict:
    """Name → tensor of a weight file; of a training checkpoint, its entry `which`, or a usual one.

    Raises:
      WeightsMismatchError: the file holds no such entry, or nothing that is named tensors.
    """
    content: Any = load_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    if not isinstance(content, dict):
        raise WeightsMismatchError(
            f"{path}: expected a dict of named tensors, found {type(content).__name__}; save model.state_dict()"
        )
    entries = {str(key): value for key, value in content.items() if _tensors(value)}
    source: dict = content
    if which is not None or entries:
        usual = [key for key in _USUAL_ENTRIES if key in entries]
        chosen = which if which is not None else next(iter(usual or entries))
        names = ", ".join(entries) or "the tensors themselves: leave --state out"
        if chosen not in entries:
            raise WeightsMismatchError(f"{path} has no {chosen} with named tensors, but {names}: choose with --state")
        if which is None and len(entries) > 1:
            say(f"took {chosen}; the file holds {names}: choose with --state")
        source = entries[chosen]
    found = _tensors(source)
    if not found:
        raise WeightsMismatchError(f"{path}: expected a dict of named tensors, found none; save model.state_dict()")
    if others := [str(key) for key in source if key not in found]:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        say(f"left out what is no named tensor: {', '.join(others[:_SHOWN])}{more}")
    return _without_wrappers(found)


def _tensors(value: Any) -> StateDict:
    """The named tensors of a dict, none of anything else."""
    if not isinstance(value, dict):
        return {}
    return {key: v for key, v in value.items() if isinstance(key, str) and isinstance(v, TensorRef | np.ndarray)}


def _without_wrappers(state_dict: StateDict) -> StateDict:
    """The same without what wrappers put before names, of each name by itself: a counter beside them has none."""
    found = {}
    for key, value in state_dict.items():
        name = key
        while wrapper := next((w for w in WRAPPERS if name.startswith(w)), None):
            name = name.removeprefix(wrapper)
        found[name] = value
    # A model may have a part that is called module, beside another of the same names.
    return found if len(found) == len(state_dict) else state_dict


def below_prefix(state_dict: StateDict, wanted: set[str], prefix: str | None) -> StateDict:
    """The entries that a part of a model has, by their names in that part; says what was taken and left out.

    Args:
      state_dict: of the whole.
      wanted: names in the part.
      prefix: of the part; None = the one below which most of the names are, none where they are there without.

    Raises:
      WeightsMismatchError: nothing lies below the prefix, or all names lie below several.
    """
    counts: Counter[str] = Counter()
    for key in state_dict:
        parts = key.split(".")
        counts.update(".".join(parts[:i]) + "." * bool(i) for i in range(len(parts)) if ".".join(parts[i:]) in wanted)
    if prefix is None:
        whole = [found for found, count in counts.items() if count == len(wanted)]
        if len(whole) > 1 and "" not in whole:
            raise WeightsMismatchError(
                f"the names are there below each of {', '.join(sorted(whole))}: choose one with --prefix"
            )
        # Of a file of another size too: what is missing is then named as the model calls it.
        best = max(counts, key=lambda found: (counts[found], -len(found)), default="")
        prefix = "" if "" in whole or counts[""] == counts[best] else best
    if not prefix:
        return state_dict
    taken = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if not taken:
        below = ", ".join(repr(found) for found, _ in counts.most_common(5)) or "none"
        raise WeightsMismatchError(f"no entry begins with {prefix!r}; names of the model are below: {below}")
    say(f"took the {len(taken)} entries below {prefix} and left out {len(state_dict) - len(taken)} others")
    return taken


def convert(
    model: nnx.Module,
    state_dict: StateDict,
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
      WeightsMismatchError: anything is missing, unexpected, of another shape or not finite; lists ten of each kind.
    """
    trees: list[dict] = [flatten_dict(tree) for tree in split_student(model)[1:]]
    shapes = {path: leaf.shape for tree in trees for path, leaf in tree.items()}
    by_name = {entry.theirs: entry for entry in entries}
    extras = [key for key in state_dict if key not in by_name]
    # Collected, because a wrong --depth would otherwise be found one entry at a time.
    problems = {
        "missing": [key for key in by_name if key not in state_dict],
        # A single number is a counter: no weight of ours is one.
        "unexpected": [
            key for key in extras if not (key in tolerated or needs_no_counterpart(key) or state_dict[key].shape == ())
        ],
        "shape": [],
        "values": [],
    }
    arrays = {}
    for key in [key for key in by_name if key in state_dict]:
        entry, value = by_name[key], state_dict[key]
        expected = entry.their_shape(shapes[entry.ours])
        # Before it is read: a checkpoint of another size may be a large one.
        if tuple(value.shape) != expected:
            problems["shape"].append(f"{key} is {tuple(value.shape)}, the model needs {expected}")
            continue
        array = value.array() if isinstance(value, TensorRef) else value
        if not np.isfinite(array).all():
            problems["values"].append(f"{key} holds NaN or infinity")
        arrays[entry.ours] = entry.from_torch(array)
    if any(problems.values()):
        lines = []
        for kind, found in problems.items():
            lines += [f"{kind}: {problem}" for problem in found[:_SHOWN]]
            lines += [f"{kind}: ... {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        count, listed = sum(map(len, problems.values())), "\n  ".join(lines)
        raise WeightsMismatchError(
            f"{count} entries do not fit the model ({len(by_name) - len(problems['missing'])} of its {len(by_name)} "
            f"names are there), nothing was written:\n  {listed}\n"
            "choose the --kind, --depth, --config, --state and --prefix that the file was saved from"
        )
    return [{path: arrays[path] for path in tree} for tree in trees], extras


def student_trees(config: Config, state_dict: StateDict, prefix: str | None = None) -> tuple[dict, dict, list[str]]:
    """The student's parameters and batch statistics (nested dicts) from `state_dict`, and the extras left out."""
    model = nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    entries = student_entries(config.model)
    trees, extras = convert(model, below_prefix(state_dict, {entry.theirs for entry in entries}, prefix), entries)
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
    # Nor does it know another activation, which has no entry to miss.
    settings = {"depth.camera_norm": config.model.depth.camera_norm, "head.activation": config.model.head.activation}
    foreign += [f"model.{name}={value}" for name, value in settings.items() if value not in ("batch", "softplus")]
    if foreign:
        parts = ", ".join(foreign[:5])
        raise WeightsMismatchError(
            f"this student is not of the PyTorch original's architecture ({parts}), so it has no state dict "
            "there; runs of configs/original.py have one"
        )
    return {entry.theirs: entry.to_torch(np.asarray(leaves[entry.ours])) for entry in entries}


def write_resnet(config: BackboneConfig, state_dict: StateDict, output: Path, prefix: str | None = None) -> list[str]:
    """Backbone weights for `config.model.backbone.weights`; returns the entries that were left out."""
    model = nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0)))
    entries = resnet_entries(config)
    part = below_prefix(state_dict, {entry.theirs for entry in entries}, prefix)
    (params, stats), extras = convert(model, part, entries, CLASSIFIER)
    save_backbone_weights(output, params | stats)
    return extras
