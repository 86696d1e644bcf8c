"""The --config flag and its overrides, checked against the typed configuration before they are parsed."""

import dataclasses
import difflib
import runpy
from pathlib import Path

from occjax.config import Config
from occjax.errors import UserError


def check_config_flag(arguments: list[str]) -> None:
    """Raises UserError for a configuration file or an override that does not exist, naming what does.

    Args:
      arguments: the command line, with --config.
    """
    path = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith("--config="):
            path = argument.removeprefix("--config=")
        elif argument == "--config":
            path = following
    check_overrides(arguments, load_config_file(path))


def load_config_file(path: str) -> Config:
    """The configuration that `path` builds; `path:variant` passes `variant` to its get_config.

    Raises:
      UserError: no such file, no such variant, or it builds no configuration.
    """
    file, _, variant = path.partition(":")
    if not Path(file).is_file():
        found = ", ".join(sorted(str(p) for p in Path("configs").glob("*.py") if p.stem != "__init__"))
        raise UserError(f"--config={path}: no such file; configurations here: {found or 'none'}")
    try:
        get_config = runpy.run_path(file).get("get_config")
    except Exception as error:  # whatever somebody's own file raises
        raise UserError(f"--config={path} cannot be run: {type(error).__name__}: {error}") from error
    if get_config is None:
        raise UserError(f"--config={path}: a configuration file defines get_config(), and this one does not")
    try:
        config = get_config(variant) if variant else get_config()
    except (TypeError, ValueError) as error:  # TypeError: it takes no variant
        raise UserError(f"--config={path}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"--config={path}: get_config() must return an occjax.config.Config, not {type(config)}")
    return config


def check_overrides(arguments: list[str], config: Config) -> None:
    """Raises UserError that names the accepted fields if an override names a field that does not exist."""
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        path = argument.removeprefix("--config.").split("=", 1)[0]
        holder, walked = config, []
        for name in path.split("."):
            accepted = [f.name for f in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
            if name not in accepted:
                where = ".".join(walked) or "config"
                close = difflib.get_close_matches(name, accepted, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise UserError(
                    f"--config.{path}: {where} has no field {name!r}{hint}\n"
                    f"  fields of {where}: {', '.join(accepted) or 'none, it is a plain value'}"
                )
            walked.append(name)
            holder = getattr(holder, name)
        if dataclasses.is_dataclass(holder):
            fields = ", ".join(f.name for f in dataclasses.fields(holder))
            raise UserError(f"--config.{path} is a section, not a value; set one of its fields: {fields}")


def apply_overrides(config: Config, overrides: dict[str, object]) -> None:
    """Sets fields by dotted path, e.g. {"data.root": "..."}; paths and types were checked when they were parsed."""
    for path, value in overrides.items():
        *sections, name = path.split(".")
        holder = config
        for section in sections:
            holder = getattr(holder, section)
        setattr(holder, name, value)
