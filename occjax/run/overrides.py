"""The configuration that a command line names: its file, and the overrides of its fields."""

import os
import runpy
import traceback
import typing
from pathlib import Path

from absl import flags
from ml_collections import config_flags

import occjax.configs
from occjax.config import Config, closed_sets
from occjax.config_rules import field_names, no_such_field, type_problems
from occjax.errors import UserError

# The recipe that this project is about.
DEFAULT_CONFIG = "configs/kd.py"
_PATHS = ("root", "labels_dir", "teacher_dir", "records_dir", "index_dir", "splits_file")
_PACKAGED = Path(occjax.configs.__file__).parent


def load_config_file(path: str) -> Config:
    """The configuration that `path` builds; `path:variant` passes `variant` to its get_config.

    Where there is no such file, `configs/kd.py`, `kd.py` and `kd` mean the package's own.

    Raises:
      UserError: no such file, no such variant, or it builds no configuration.
    """
    name, _, variant = path.partition(":")
    file = str(_find(name))
    try:
        # And not imported: somebody's own file lies outside of every package.
        get_config = runpy.run_path(file).get("get_config")
    except Exception as error:  # whatever somebody's own file raises
        raise UserError(f"--config={path} cannot be run: {_said_of(error, file)}") from error
    # A file of constants runs without a complaint.
    if get_config is None:
        raise UserError(f"--config={path}: a configuration file defines get_config(), and this one does not")
    try:
        config = get_config(variant) if variant else get_config()
    except (TypeError, ValueError) as error:  # TypeError: it takes no variant
        raise UserError(f"--config={path}: {error}") from error
    except Exception as error:
        raise UserError(f"--config={path}: {_said_of(error, file)}") from error
    if not isinstance(config, Config):
        raise UserError(f"--config={path}: get_config() must return an occjax.config.Config, not {type(config)}")
    # Here rather than where a value is used, which may be hours later, or never.
    _require_types(config, f"--config={path}")
    _expand_home(config)
    return config


def _expand_home(config: Config) -> None:
    """Writes out ~ in the paths of a file's configuration; on the command line `Parser` does."""
    for section, names in ((config.data, _PATHS), (config.model.backbone, ("weights",))):
        for name in names:
            setattr(section, name, os.path.expanduser(getattr(section, name)))


def _said_of(error: Exception, file: str) -> str:
    """Kind and text of an error, and the line of `file` that it comes from, if it comes from one."""
    lines = [
        f" (line {at.lineno}: {at.line})" for at in traceback.extract_tb(error.__traceback__) if at.filename == file
    ]
    return f"{type(error).__name__}: {error}{lines[-1] if lines else ''}"


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
    # Of a tuple's elements absl looks at none.
    _require_types(holder.value, " ".join(a for a in arguments if a.startswith("--")))
    return holder.value


def _require_types(config: Config, source: str) -> None:
    found = type_problems(config)
    if found:
        raise UserError(f"{source}: " + "\n".join(found))


def _check_fields(config: Config, arguments: list[str]) -> None:
    """Before absl parses them: its errors name neither the section nor the fields that there are."""
    for argument in arguments:
        _, is_override, path = argument.split("=", 1)[0].partition("config.")
        if not (is_override and argument.startswith("-")):
            continue
        holder, where = config, "config"
        for depth, name in enumerate(path.split("."), 1):
            if name not in field_names(holder):
                raise UserError(f"--config.{path}: {no_such_field(holder, where, name)}")
            holder, where = getattr(holder, name), ".".join(path.split(".")[:depth])
        if fields := ", ".join(field_names(holder)):
            raise UserError(f"--config.{path} is a section, not a value; set one of its fields: {fields}")
