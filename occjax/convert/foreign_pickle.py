"""Pickles of strangers: read without running anything in them, since only names on a list are ever looked up."""

import io
import mmap
import pickle
import reprlib
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

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

    def __init__(self, pairs: Iterable = ()):
        super().__init__((_key(key), value) for key, value in pairs)

    def __setstate__(self, state: Any) -> None:
        """Leaves out attributes, such as torch's _metadata."""


def _key(value: Any) -> Any:
    """A key of a dict: text, bytes or a number of up to 64 bits, as all that honest files have.

    A tuple of tuples, doubled forty times, takes two hundred bytes and years to hash; long integers are hashed anew
    for every use.
    """
    if value is None or isinstance(value, str | bytes | float):
        return value
    if isinstance(value, int | np.integer) and int(value).bit_length() <= 64:
        return value
    raise pickle.UnpicklingError(f"a key is {reprlib.repr(value)}, where only text and numbers are read")


# The one in Python, for the one in C hashes on its own account, and makes 4 GB of room for a number in six bytes.
# Without a type, because the standard library's stubs leave out what a class below it uses.
_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):
    def __init__(self, content: io.BytesIO | mmap.mmap, allowed: Mapping, stored: Callable | None):
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

    def load_setitem(self):
        _key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self):
        # Above the last mark: keys and values in turn.
        for key in self.stack[::2]:
            _key(key)
        super().load_setitems()

    def load_dict(self):
        for key in self.stack[::2]:
            _key(key)
        super().load_dict()

    def load_bytearray8(self):
        # The base class makes all of the room first.
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    def refuse_set(self):
        raise pickle.UnpicklingError("it holds a set, which no weights and no info file have")

    # Of the base class: functions by the first byte of their opcode.
    dispatch = {
        **_InPython.dispatch,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        **dict.fromkeys(pickle.EMPTY_SET + pickle.ADDITEMS + pickle.FROZENSET, refuse_set),
    }


def load_pickle(
    content: bytes | mmap.mmap, allowed: Mapping[tuple[str, str], object], stored: Callable | None = None
) -> Any:
    """What a pickle holds: containers, numbers and text, and what `allowed` puts in the place of its other names.

    Args:
      content: of the file, or the file itself in memory, which is then read up to the pickle's end. Neither makes room
        for more bytes than there are.
      allowed: stand-ins by module and name: text, functions, and classes with a __setstate__. They are called with
        whatever the pickle says, so they trust nothing.
      stored: stands in for what lies outside of the pickle; called with its id.

    Raises:
      RefusedNameError: the pickle names anything else.
      Exception: anything at all, for it is hostile or broken.
    """
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    return _Unpickler(stream, allowed, stored).load()
