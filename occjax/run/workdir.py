"""The folder of a run: the resolved configuration beside its checkpoints, and what it was made with."""

import contextlib
import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from occjax.config import RANDOM, Config
from occjax.errors import UserError
from occjax.run.initialisation import Initialisation, configured_initialisation
from occjax.storage import locked, versions, write_json

# Sections whose change would make a resumed run another run.
_FIXED_SECTIONS = ("grid.", "data.", "augment.", "model.", "loss.")
# Fields of those sections that say where things lie and how fast they come, not what is computed.
_FREE_FIELDS = (
    "data.root",
    "data.labels_dir",
    "data.teacher_dir",
    "data.records_dir",
    "data.on_error",
    "data.max_skipped",
    "data.index_dir",
    "data.splits_file",
    "data.workers",
    "data.prefetch",
    "data.synthetic",
    "model.backbone.weights",
)
# What runs did whose config.json lacks a field, where that is not the field's default.
_WITHOUT_FIELD = {"model.depth.camera_norm": "batch", "loss.distill.use_camera_mask": False}


class WorkdirError(UserError):
    """A workdir belongs to another run, or holds none."""


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Context in which no other process can train in `workdir`, which is made if absent.

    Raises:
      WorkdirError: another one does, or there can be no folder.
    """
    _make(workdir)
    with locked(workdir / ".lock") as is_ours:
        if not is_ours:
            raise WorkdirError(
                f"another process trains in {workdir}; stop it, or wait for its end, or choose another --workdir"
            )
        yield


def _make(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"cannot make the folder {workdir}: {error.strerror}; choose another --workdir") from error


def open_workdir(workdir: Path, config: Config, imported: Initialisation | None = None) -> list[str]:
    """Makes `workdir` the home of a run with this configuration, or checks that it already is.

    A start that failed before its first checkpoint (a path mistyped, say) leaves it free. config.json says what the
    weights started from: found out by the first start, once, and kept by those that resume it.

    Args:
      workdir: folder, made if absent.
      config: of the run.
      imported: what the weights are of, where it is not what the configuration says.

    Returns:
      remarks about fields that changed and may change (training schedule, paths, workers).

    Raises:
      WorkdirError: the run in `workdir` had another model, grid, data, augmentation or loss, or there can be no folder.
      BackboneWeightsError: the run is new, and its file of backbone weights is absent.
    """
    _make(workdir)
    path = workdir / "config.json"
    remarks = []
    # Without a checkpoint there is nothing that the new configuration could contradict.
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        initialisation = stored_initialisation(workdir)
        before, now = _flat(load_config(workdir)), _flat(config)
        changed = {key: f"{key}: was {before[key]!r}, now {now[key]!r}" for key in now if before[key] != now[key]}
        fixed = [
            f"  {line}\n"
            for key, line in changed.items()
            if key.startswith(_FIXED_SECTIONS) and not key.startswith(_FREE_FIELDS)
        ]
        if fixed:
            raise WorkdirError(
                f"{workdir} holds a run with another configuration:\n{''.join(fixed)}"
                "resume it with the values it was started with, or choose a new --workdir"
            )
        remarks = list(changed.values())
    else:
        initialisation = (imported or configured_initialisation(config))._asdict()
    # After the comparison, which reads what it replaces.
    write_json(path, {"config": config.to_dict(), "initialisation": initialisation, "versions": versions()})
    return remarks


def stored_initialisation(workdir: Path) -> dict[str, str] | None:
    """What the weights of the run in `workdir` started from, as config.json holds it; None where it does not say."""
    path = workdir / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("initialisation") if path.exists() else None
    except (json.JSONDecodeError, AttributeError):
        return None  # `load_config` says what is wrong with the file


def load_config(workdir: Path) -> Config:
    """The configuration that the run in `workdir` was started with.

    Raises:
      WorkdirError: there is none, or it was written by a version with other fields.
    """
    path = workdir / "config.json"
    if not path.exists():
        runs = sorted(str(p.parent) for p in workdir.parent.glob("*/config.json"))
        beside = f"; runs beside it: {', '.join(runs)}" if runs else ""
        raise WorkdirError(f"{workdir} holds no run (no config.json){beside}; train first or name another --workdir")
    try:
        return _from_dict(Config, _as_now(json.loads(path.read_text(encoding="utf-8"))["config"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise WorkdirError(
            f"{path} does not fit this version of occjax: {error}; name the configuration with --config, or use the "
            "version that wrote it (its `versions` entry)"
        ) from error


def _as_now(values: dict) -> dict:
    """A configuration of any version, with the fields of this one."""
    fields: dict[str, Any] = {**_WITHOUT_FIELD, **flatten_dict(values, sep=".")}
    if "train.ema_decay" in fields:
        fields["train.ema_samples"] = round(fields["data.batch_size"] / (1 - fields.pop("train.ema_decay")))
    if fields.get("model.backbone.weights") == "":
        fields["model.backbone.weights"] = RANDOM
    return unflatten_dict(fields, sep=".")


def _from_dict(kind: type, values: dict):
    """Builds the dataclass `kind` from plain JSON values."""
    types = typing.get_type_hints(kind)
    # Fields that are absent get their defaults, so that older runs load; unknown ones were meant to do something.
    unknown = sorted(set(values) - {f.name for f in dataclasses.fields(kind)})
    if unknown:
        raise TypeError(f"unknown fields {', '.join(unknown)}")
    built = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(types[name]):
            value = _from_dict(types[name], value)
        # JSON has no tuples, and a configuration no lists.
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return kind(**built)


def _flat(config: Config) -> dict[str, object]:
    """Plain values by dotted path; sequences as tuples, however somebody's file wrote them."""
    flat = flatten_dict(config.to_dict(), sep=".")
    return {path: tuple(value) if isinstance(value, list) else value for path, value in flat.items()}
