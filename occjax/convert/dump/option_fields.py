"""Options of a command line declared as fields of a dataclass: name, type, default and help in one place."""

import argparse
import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from occjax.system.command_line import whole_numbers, words


def option(default: Any, help: str) -> Any:
    """A field that is an option of the command line too, of its name and type."""
    return dataclasses.field(default=default, metadata={"help": help})


def option_names(kind: type) -> list[str]:
    """The fields of a dataclass that were declared so, in order."""
    return [field.name for field in dataclasses.fields(kind) if "help" in field.metadata]


def add_options(group: argparse._ArgumentGroup, kind: type, *, unset: bool = False) -> None:
    """Adds an option for each field of a dataclass that was declared as one.

    Args:
      group: of the parser.
      kind: the dataclass.
      unset: leaves None where an option is not given, in place of its default, which the help still names.
    """
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if "help" not in field.metadata:
            continue
        hint, default = hints[field.name], field.default
        extra: dict[str, Any] = {"type": hint}
        if hint is bool:
            extra = {"action": argparse.BooleanOptionalAction}
        elif get_origin(hint) is Literal:
            extra = {"choices": get_args(hint)}
        elif get_origin(hint) is tuple:  # shown as it is typed, and read as if it had been
            extra["type"] = words if get_args(hint)[0] is str else whole_numbers
            default = ",".join(str(part) for part in getattr(kind, field.name))
        elif field.name.endswith("_dir"):
            extra["metavar"] = "DIR"
        name, help = f"--{field.name.replace('_', '-')}", field.metadata["help"]
        if unset:
            help += f" (default: {default})" if default not in ("", False) else ""
            default = None
        group.add_argument(name, default=default, help=help, **extra)


def from_options(kind: type, options: argparse.Namespace, **others: Any) -> Any:
    """A dataclass of these options, and of `others` where a field is not an option by itself; None is the default."""
    given = {name: getattr(options, name) for name in option_names(kind)}
    # Lists become tuples: the dataclasses are frozen, and compared.
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    return kind(**plain | others)
