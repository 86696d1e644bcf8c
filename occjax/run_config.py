"""Configuration of a run, read back from the config.json of its workdir."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from occjax.config import RANDOM, Config
from occjax.config_rules import type_problems
from occjax.errors import UserError

# What runs did whose config.json lacks a field, where that is not the field's default.
_WITHOUT_FIELD = {"model.depth.camera_norm": "batch", "loss.distill.use_camera_mask": False}


class WorkdirError(UserError):
    """A workdir belongs to another run, or holds none."""


def stored_initialisation(workdir: Path) -> dict[str, str] | None:
    """What the weights of the run in `workdir` started from, as config.json holds it; None where it does not say."""
    return stored_fact(workdir, "initialisation")


def stored_fact(workdir: Path, name: str) -> dict | None:
    """An entry of config.json beside the configuration; None where there is none."""
    path = workdir / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(name) if path.exists() else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None  # `load_config` says what is wrong with the file
    return found if isinstance(found, dict) else None


def load_config(workdir: Path) -> Config:
    """The configuration that the run in `workdir` was started with; of a file of an export, that beside it.

    Raises:
      WorkdirError: there is none, or it was written by a version with other fields.
    """
    path = (workdir.parent if workdir.is_file() else workdir) / "config.json"
    if not path.exists():
        runs = sorted(str(p.parent) for p in workdir.parent.glob("*/config.json"))
        beside = f"; runs beside it: {', '.join(runs)}" if runs else ""
        why = "no config.json" if workdir.exists() else "it is not there"
        raise WorkdirError(f"{workdir} holds no run ({why}){beside}; train first or name another --workdir")
    try:
        text = path.read_text(encoding="utf-8")
        config = _from_dict(Config, _as_now(json.loads(text)["config"]))
        if problems := type_problems(config):  # by somebody's hand
            raise TypeError("; ".join(problems))
        return config
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        found = "is empty, as a crash of the machine leaves it" if not path.stat().st_size else f"is damaged ({error})"
        raise WorkdirError(
            f"{path} {found}: delete it, and name the configuration that the run was started with by --config; "
            "training then goes on and writes it anew"
        ) from error
    # A file that was damaged may hold anything at all in any place.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WorkdirError(
            f"{path} does not fit this version of occjax: {error}; name the configuration with --config, or use the "
            "version that wrote it (its `versions` entry)"
        ) from error


def _as_now(values: dict) -> dict:
    """A configuration of any version, with the fields of this one."""
    if not isinstance(values, dict):
        raise TypeError(f"config is no object but {values!r}")
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
    section = kind()
    for name, value in values.items():
        if dataclasses.is_dataclass(types[name]):
            value = _from_dict(types[name], value)
        # JSON has no tuples, and a configuration no lists.
        elif isinstance(value, list):
            value = tuple(value)
        setattr(section, name, value)
    return section
