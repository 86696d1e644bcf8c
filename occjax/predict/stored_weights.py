"""Weights of a run, as its checkpoints hold them: the student's alone are read, onto the devices."""

import functools
import json
import math
import operator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from occjax.config import Config
from occjax.models.student import abstract_student
from occjax.predict.checkpoint_folders import SCORE, CheckpointError, named_damage, whole_steps
from occjax.predict.temperature import NO_TEMPERATURE, read_temperature
from occjax.system.mesh import replicated


class Weights(NamedTuple):
    """What the student predicts with.

    Attributes:
      params, batch_stats: of the student, nested dicts of arrays.
      step: updates that made them.
      temperature: that was fitted for them; probabilities are of the logits divided by it.
    """

    params: dict
    batch_stats: dict
    step: int
    temperature: float = NO_TEMPERATURE


def restore(config: Config, workdir: Path, mesh: Mesh, *, best: bool = False) -> Weights:
    """The configured weights (EMA or raw) of the newest checkpoint of `workdir`, or of the one with the best mIoU.

    They lie whole on each device of `mesh`; nothing else of the checkpoint is read, and nothing is written.

    Raises:
      CheckpointError: no checkpoint, or one of another model.
    """
    _, params, batch_stats = abstract_student(config.model, config.grid.build())
    return read_student(workdir, params, batch_stats, mesh, which=config.eval.weights, best=best)


def read_student(
    workdir: Path, params: dict, batch_stats: dict, mesh: Mesh, *, which: Literal["ema", "raw"], best: bool
) -> Weights:
    """As `restore`, of any student.

    Args:
      workdir: of the run.
      params: the student's, shapes in the place of arrays; likewise batch_stats.
      mesh: devices.
      which: averaged, or as the last step left them.
      best: the checkpoint with the best validation mIoU.
    """
    folder = checkpoint_folder(workdir, best=best)
    if which == "raw":
        item, paths = "state", (("params", "student"), ("batch_stats",))
    elif keeps_ema_apart(folder):
        item, paths = "ema", (("params",), ("batch_stats",))
    else:  # of an earlier version
        item, paths = "state", (("ema", "params"), ("ema", "batch_stats"))
    with named_damage(folder):
        wanted: dict[tuple[str, ...], Any] = dict(zip(paths, (params, batch_stats), strict=True))
        params, batch_stats = _read_subtrees(folder, item, wanted, mesh)
    return Weights(params, batch_stats, int(folder.name), read_temperature(folder, which))


def checkpoint_folder(workdir: Path, *, best: bool) -> Path:
    """Folder of the newest checkpoint, or of the best; raises CheckpointError where there is none."""
    folder = (workdir / ("best" if best else "checkpoints")).resolve()  # orbax refuses a relative one
    # By hand: orbax's manager wants to write, or else logs warnings that it cannot.
    steps = whole_steps(folder)
    if not steps:
        remedy = "leave --best out" if best else "train first, or name another --workdir"
        if any(workdir.glob("model.*")):
            remedy = "it is an export: --mode=predict and occjax.load read it, all else wants the run"
        raise CheckpointError(f"no {'best ' if best else ''}checkpoint in {workdir}; {remedy}")
    return folder / str(max(steps, key=lambda step: _score(folder / str(step))) if best else max(steps))


def _score(checkpoint: Path) -> float:
    """What a checkpoint of `best` was kept for, lowest where it is not known."""
    try:
        score = float(json.loads((checkpoint / "metrics/metrics").read_text())[SCORE])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return -math.inf
    return -math.inf if math.isnan(score) else score


def keeps_ema_apart(checkpoint: Path) -> bool:
    """Whether the averages are an item of their own, as they are since the second version."""
    return (checkpoint / "ema").is_dir()


def placed(tree: Any, mesh: Mesh) -> Any:
    """Shapes of a tree, each whole on every device."""
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _read_subtrees(checkpoint: Path, item: str, wanted: dict[tuple[str, ...], Any], mesh: Mesh) -> list[Any]:
    """The subtrees of a stored item that lie under the paths of `wanted`; all else of it stays on the disk."""
    stored = stored_tree(checkpoint / item)
    subtrees = {"/".join((item, *path)): _subtree(stored, path) for path in wanted}
    require_fit(checkpoint, shapes(subtrees), shapes(dict(zip(subtrees, wanted.values(), strict=True))))
    # Placeholders rather than a partial restore, which would pass over what a subtree lacks or has too much.
    target = jax.tree.map(lambda _: ocp.PLACEHOLDER, stored)
    for path, tree in wanted.items():
        _subtree(target, path[:-1])[path[-1]] = placed(tree, mesh)
    how = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.restore(checkpoint / item, args=ocp.args.PyTreeRestore(target, restore_args=how))
    return [_subtree(found, path) for path in wanted]


def _subtree(tree: Any, path: tuple[str, ...]) -> Any:
    return functools.reduce(operator.getitem, path, tree)


def stored_tree(item: Path) -> Any:
    """What a stored item holds: shapes and types, and no array."""
    return ocp.PyTreeCheckpointHandler().metadata(epath.Path(item.resolve())).tree  # orbax refuses a relative one


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every array by its path; orbax knows keys as strings, whatever they were."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def require_fit(checkpoint: Path, stored: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError unless names and shapes agree.

    Before anything is read: a restore that orbax has to break off leaves reads which it began and never awaits, and
    these complain whenever they are collected.
    """
    kinds = {
        "missing": [name for name in wanted if name not in stored],
        "not in the model": [name for name in stored if name not in wanted],
        "shape": [
            f"{name} {stored[name]} stored, {shape} wanted"
            for name, shape in wanted.items()
            if stored.get(name, shape) != shape
        ],
    }
    lines = []
    for kind, found in kinds.items():
        # Optimizer moments last: they only repeat what is wrong with the parameters.
        found.sort(key=lambda line: "opt_state" in line)
        lines += [f"  {kind}: {line}\n" for line in found[:10]]
        lines += [f"  {kind}: {len(found) - 10} more\n"] if len(found) > 10 else []
    if lines:
        raise CheckpointError(
            f"checkpoint {checkpoint} does not fit the configured model:\n{''.join(lines)}"
            "use the configuration that the run was trained with (<workdir>/config.json)"
        )
