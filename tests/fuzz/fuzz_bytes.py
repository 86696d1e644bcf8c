"""Mutations that know little or nothing of a format: of bytes, of JSON trees and of arrays of numbers."""

import json
import random
from collections.abc import Callable

import numpy as np

Mutate = Callable[[bytes, random.Random], bytes]
_INTEGERS = (0, 1, -1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)


def _span(data: bytes, r: random.Random, most: int = 4096) -> tuple[int, int]:
    start = r.randrange(len(data) + 1)
    return start, min(len(data), start + r.randint(1, most))


def flip_bits(data: bytes, r: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(r.choice((1, 1, 2, 8, 100))):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def truncate(data: bytes, r: random.Random) -> bytes:
    return data[: r.choice((0, 1, 4, 16, len(data) // 2, max(len(data) - 1, 0), r.randrange(len(data) + 1)))]


def overwrite(data: bytes, r: random.Random) -> bytes:
    start, end = _span(data, r)
    return data[:start] + r.choice((b"\0", b"\xff", b" ", r.randbytes(1))) * (end - start) + data[end:]


def set_integer(data: bytes, r: random.Random) -> bytes:
    size = r.choice((1, 2, 4, 8))
    start = r.choice((r.randrange(len(data) + 1), r.randrange(min(len(data), 128) + 1)))
    value = (r.choice(_INTEGERS) & ((1 << 8 * size) - 1)).to_bytes(size, r.choice(("little", "big")))
    return data[:start] + value + data[start + size :]


def splice(data: bytes, r: random.Random) -> bytes:
    (start, end), (to, _) = _span(data, r), _span(data, r)
    kind = r.randrange(4)
    if kind == 0:  # gone
        return data[:start] + data[end:]
    if kind == 1:  # twice, elsewhere
        return data[:to] + data[start:end] + data[to:]
    if kind == 2:  # the halves exchanged
        return data[start:] + data[:start]
    return data[:to] + r.randbytes(r.choice((1, 7, 512))) + data[to:]


def append(data: bytes, r: random.Random) -> bytes:
    return data + r.choice((data, bytes(5000), r.randbytes(100)))


BYTES: tuple[Mutate, ...] = (flip_bits, truncate, overwrite, set_integer, splice, append)


def mutate_bytes(data: bytes, r: random.Random) -> bytes:
    return r.choice(BYTES)(data, r)


def odd_value(r: random.Random):
    """Values that no honest table, manifest or header holds in that place, or only in another."""
    deep = []
    for _ in range(50):
        deep = [deep]
    choices = (None, True, False, 0, 1, -1, 0.5, 255, 1e308, -1e308, 1 << 70, 10**400, float("nan"), float("inf"), "")
    choices += ("x", "../../x", "/etc/passwd", "a/b", ".", "\ud800", "\0", "é" * 300, "1", "NaN", "[]", [], {}, [[]])
    choices += ([0, 0, 0], [1, 0, 0, 0], [None] * 4, [1e9, -1e9], {"a": 1}, deep, [0] * 2000, "\n", " ")
    return r.choice(choices)


def _places(node, at=()):
    yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from _places(child, (*at, key))


def mutate_tree(root, r: random.Random):
    """A tree of dicts and lists, changed in one to three places."""
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        places = [place for place in _places(root) if place]
        if not places or r.random() < 0.02:
            return odd_value(r)
        *path, key = r.choice(places)
        holder = root
        for step in path:
            holder = holder[step]
        kind = r.randrange(10)
        if kind < 6:
            holder[key] = odd_value(r)
        elif kind == 6:
            del holder[key]
        elif kind == 7 and isinstance(holder, list):
            holder.insert(r.randrange(len(holder) + 1), holder[key])
        elif kind == 8 and isinstance(holder, dict):
            holder[r.choice(("token", "x", "", str(key) + " "))] = holder.pop(key)
        else:
            holder[key] = str(holder[key])[:100]
    return root


def mutate_json(data: bytes, r: random.Random) -> bytes:
    kind = r.random()
    if kind < 0.1:
        return mutate_bytes(data, r)
    if kind < 0.13:
        return b"[" * r.choice((100, 100_000))
    if kind < 0.15:
        return b"\xff\xfe" + data.decode().encode("utf-16-le")
    # Escapes, so that lone surrogates can be written at all.
    return json.dumps(mutate_tree(json.loads(data), r)).encode()


def mutate_array(array: np.ndarray, r: random.Random) -> np.ndarray:
    """Values, type or shape of an array."""
    kind = r.randrange(8)
    if kind < 4 and array.size and array.dtype.kind in "biuf":
        changed = array.astype(r.choice((array.dtype, np.float64, np.float32, np.int64, np.int8, np.float16)))
        odd = (np.nan, np.inf, -np.inf, 1e30) if changed.dtype.kind == "f" else ()
        places = np.unique([r.randrange(array.size) for _ in range(r.choice((1, 3, 100)))])
        with np.errstate(all="ignore"):
            value = np.asarray(r.choice((*odd, -1, -100, 100, 127, 0, 0.5))).astype(changed.dtype)
        changed.reshape(-1)[places] = value
        return changed
    if kind == 4:
        return array.reshape(-1) if array.ndim != 1 else array[None]
    if kind == 5:
        return array.T if array.ndim > 1 else array[: len(array) // 2] if array.ndim else array[None]
    if kind == 6:
        return array[:0] if array.ndim else np.zeros((0,))
    with np.errstate(all="ignore"):
        kinds = (
            ("S8", "U8", "complex64", "bool", ">i4", "datetime64[s]") if array.dtype.kind in "biuf" else ("S8", "U8")
        )
        return array.astype(r.choice(kinds)) if array.dtype.kind != "O" else array
