"""Pickles of strangers: read without running anything in them, since only names on a list are ever looked up."""

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from occjax.errors import UserError


class RefusedNameError(UserError):
    """A pickle asks for something that is not on the list; the message is its name."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: io.BufferedIOBase, allowed: Mapping, stored: Callable | None):
        super().__init__(content)
        self._allowed, self._stored = allowed, stored

    def find_class(self, module: str, name: str):
        # A list of what is allowed, for no list of what is dangerous is ever complete.
        if (module, name) not in self._allowed:
            raise RefusedNameError(f"{module}.{name}")
        return self._allowed[module, name]

    def persistent_load(self, pid):
        if self._stored is None:
            raise pickle.UnpicklingError("it refers to something outside of itself")
        return self._stored(pid)


def load_pickle(
    content: bytes | io.BufferedIOBase, allowed: Mapping[tuple[str, str], object], stored: Callable | None = None
) -> Any:
    """What a pickle holds: containers, numbers and text, and what `allowed` puts in the place of its other names.

    Args:
      content: of the file, or the file itself, which is then read up to the pickle's end.
      allowed: stand-ins by module and name. They are called with whatever the pickle says, so they trust nothing.
      stored: stands in for what lies outside of the pickle; called with its id.

    Raises:
      RefusedNameError: the pickle names anything else.
      Exception: anything at all, for it is hostile or broken.
    """
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    return _Unpickler(stream, allowed, stored).load()
