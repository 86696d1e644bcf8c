"""Fields of the configuration, listed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from occjax.config import Config
from occjax.config_rules import field_names


def plain_fields(section: Any = None, prefix: str = "") -> Iterator[str]:
    """Dotted path of every field that is no section."""
    section = Config() if section is None else section
    for name in field_names(section):
        value = getattr(section, name)
        if dataclasses.is_dataclass(value):
            yield from plain_fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name
