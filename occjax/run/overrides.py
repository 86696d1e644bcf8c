"""The configuration that a command line names: its file, and the overrides of its fields."""

import dataclasses
import difflib
import runpy
import typing
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

import occjax.configs
from occjax.config import Config, closed_sets
from occjax.errors import UserError

# The recipe that this project is about.
DEFAULT_CONFIG = "configs/kd.py"
_PACKAGED = Path(occjax.configs.__file__).parent


def load_config_file(path: str) -> Config:
    """The configuration that `path` builds; `path:variant` passes `variant` to its get_config.

    Where there is no such file, `configs/kd.py`, `kd.py` and `kd` mean the package's own.

    Raises:
      UserError: no such file, no such variant, or it builds no configuration.
    """
    name, _, variant = path.partition(":")
    try:
        # And not imported: somebody's own file lies outside of every package.
        get_config = runpy.run_path(str(_find(name))).get("get_config")
    except UserError:
        raise
    except Exception as error:  # whatever somebody's own file raises
        raise UserError(f"--config={path} cannot be run: {type(error).__name__}: {error}") from error
    # A file of constants runs without a complaint.
    if get_config is None:
        raise UserError(f"--config={path}: a configuration file defines get_config(), and this one does not")
    try:
        config = get_config(variant) if variant else get_config()
    except (TypeError, ValueError) as error:  # TypeError: it takes no variant
        raise UserError(f"--config={path}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"--config={path}: get_config() must return an occjax.config.Config, not {type(config)}")
    return config


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    # After the file of that name: whoever copied a configuration and changed it means the copy.
    packaged = _PACKAGED / f"{path.stem}.py"
    if str(path.parent) in (".", "configs") and path.suffix in ("", ".py") and packaged.is_file():
        return packaged
    here = ", ".join(sorted(str(p) for p in Path("configs").glob("*.py") if p.stem != "__init__"))
    of_package = ", ".join(sorted(p.stem for p in _PACKAGED.glob("*.py") if p.stem != "__init__"))
    raise UserError(
        f"--config={name}: no such file in {Path.cwd()}; configurations here: {here or 'none'}; of the package: "
        f"{of_package}"
    )


def apply_overrides(config: Config, arguments: list[str]) -> Config:
    """A copy of `config` with the fields set that `arguments` name, as --config.section.field=value.

    Raises:
      UserError: there is no such field, which names those that there are, or the value is of another type.
    """
    _check_fields(config, arguments)
    for kind in closed_sets().values():  # config_flags knows no Literal; config_checks says which values it takes
        parser = {int: flags.IntegerParser(), str: flags.ArgumentParser()}[type(typing.get_args(kind)[0])]
        config_flags.register_flag_parser_for_type(kind, parser)
    # Flags of their own: absl's global ones would remember the last call.
    values = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=arguments)
        rest = values(["", *arguments])[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    if rest:
        raise UserError(f"unexpected arguments {' '.join(rest)}; every option starts with --")
    return holder.value


def _check_fields(config: Config, arguments: list[str]) -> None:
    """Before absl parses them: its errors name neither the section nor the fields that there are."""
    for argument in arguments:
        _, is_override, path = argument.split("=", 1)[0].partition("config.")
        if not (is_override and argument.startswith("-")):
            continue
        holder, where = config, "config"
        for depth, name in enumerate(path.split("."), 1):
            accepted = _fields(holder)
            if name not in accepted:
                # A field mistyped is the usual mistake, and nobody knows them all by heart.
                close = difflib.get_close_matches(name, accepted, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise UserError(
                    f"--config.{path}: {where} has no field {name!r}{hint}\n"
                    f"  fields of {where}: {', '.join(accepted) or 'none, it is a plain value'}"
                )
            holder, where = getattr(holder, name), ".".join(path.split(".")[:depth])
        if fields := ", ".join(_fields(holder)):
            raise UserError(f"--config.{path} is a section, not a value; set one of its fields: {fields}")


def _fields(section: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []
