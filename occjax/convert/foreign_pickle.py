"""Pickles of strangers: read without running anything in them, since only names on a list are ever looked up."""

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from occjax.errors import UserError


class RefusedNameError(UserError):
    """A pickle asks for something that is not on the list; the message is its name."""


class StandIn:
    """A function in the place of a foreign name: a pickle can call it, and change nothing of it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class Entries(dict):
    """Stands in for collections.OrderedDict: a dict without attributes, of which a pickle could cover its methods."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Leaves out attributes, such as torch's _metadata."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: io.BufferedIOBase, allowed: Mapping, stored: Callable | None):
        super().__init__(content)
        self._allowed, self._stored = allowed, stored

    def find_class(self, module: str, name: str):
        # A list of what is allowed, for no list of what is dangerous is ever complete.
        if (module, name) not in self._allowed:
            raise RefusedNameError(f"{module}.{name}")
        found = self._allowed[module, name]
        # Functions and classes outlive the pickle that would change them: BUILD sets attributes on whatever has no
        # __setstate__. Of a class it finds the one of its instances, which cannot be called so.
        if isinstance(found, str) or hasattr(found, "__setstate__"):
            return found
        return StandIn(found)

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
      allowed: stand-ins by module and name: text, functions, and classes with a __setstate__. They are called with
        whatever the pickle says, so they trust nothing.
      stored: stands in for what lies outside of the pickle; called with its id.

    Raises:
      RefusedNameError: the pickle names anything else.
      Exception: anything at all, for it is hostile or broken.
    """
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    return _Unpickler(stream, allowed, stored).load()
