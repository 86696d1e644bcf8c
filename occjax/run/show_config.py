"""The resolved configuration as a listing: each field with its meaning and value, and what differs from the default."""

import dataclasses
import inspect
import re
import textwrap
from typing import Any

from occjax.config import Config

_WIDTH = 118
_MARK = "<- "


def described(config: Config) -> str:
    """The fields in the order of the data flow, as assignments that a configuration file can hold.

    Above each stands its meaning, behind it the default where the value is another one.
    """
    lines = _section(config, Config(), "config")[1:]
    changed = sum(_MARK in line for line in lines)
    count = sum(not line.startswith("#") and bool(line) for line in lines)
    lines += [
        "",
        f"# {changed} of {count} fields differ from the defaults in occjax/config.py, marked {_MARK.strip()}",
        "# Override any of them with --config.section.field=value, or assign them in a file of your own",
    ]
    return "\n".join(lines)


def field_meanings(section: type) -> dict[str, str]:
    """What the docstring of a section says of each of its fields, on one line each."""
    _, _, attributes = inspect.cleandoc(section.__doc__ or "").partition("\nAttributes:\n")
    meanings = {}
    for entry in re.split(r"\n(?=  \w)", "\n" + textwrap.indent(inspect.cleandoc(attributes), "  ")):
        names, colon, text = entry.strip().partition(":")
        if colon:
            meanings |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(text.split()))
    return meanings


def _section(values: Any, defaults: Any, path: str) -> list[str]:
    about = inspect.cleandoc(type(values).__doc__ or "").split("\n\n")[0]
    lines = ["", *_comment(f"{path}: {' '.join(about.split())}"), ""]
    meanings = field_meanings(type(values))
    inner = []
    for field in dataclasses.fields(values):
        value, default = getattr(values, field.name), getattr(defaults, field.name)
        if dataclasses.is_dataclass(value):
            # After the plain fields, so that each stands under the heading of its own section.
            inner += _section(value, default, f"{path}.{field.name}")
            continue
        if field.name in meanings:
            lines += _comment(f"{field.name}: {meanings[field.name]}")
        line = f"{path}.{field.name} = {value!r}"
        lines.append(line if _same(value, default) else f"{line}  # {_MARK}default: {default!r}")
    return [*lines, *inner]


def _same(value: Any, default: Any) -> bool:
    # A file may write a list where the default is a tuple.
    return (tuple(value) if isinstance(value, list) else value) == default


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
