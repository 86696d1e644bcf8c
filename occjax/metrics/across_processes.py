"""Metric states of all processes added up, in 64 bits."""

import dataclasses
import functools
from typing import Any

import numpy as np


def merge_over_processes(state: Any) -> Any:
    """The merged state of every process of a distributed run; `state` itself where there is one process.

    Every process must call it with a state of the same kind.
    """
    import jax

    if jax.process_count() == 1:
        return state
    from jax.experimental import multihost_utils

    gathered = np.asarray(multihost_utils.process_allgather(pack(state)))
    return functools.reduce(lambda a, b: a.merge(b), (unpack(state, row) for row in gathered))


def wait_for_all(name: str) -> None:
    """Returns once every process of a distributed run is here; at once where there is one process."""
    import jax

    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def pack(state: Any) -> np.ndarray:
    """The numbers of a state as int32 words: jax would cut 64-bit numbers to 32 bits."""
    return np.concatenate([leaf.reshape(-1).view(np.int32) for leaf in _leaves(state)])


def unpack(like: Any, words: np.ndarray) -> Any:
    """The state whose `pack` is `words`; `like` gives its structure."""
    rebuilt, used = _rebuild(like, np.ascontiguousarray(words), 0)
    if used != len(words):
        raise ValueError(f"a state of {used} words was expected, found {len(words)}: processes differ in code")
    return rebuilt


def _leaves(state: Any) -> list[np.ndarray]:
    if dataclasses.is_dataclass(state):
        return [leaf for field in dataclasses.fields(state) for leaf in _leaves(getattr(state, field.name))]
    if isinstance(state, int):
        return [np.array([state], np.int64)]
    return [np.ascontiguousarray(state)] if isinstance(state, np.ndarray) else []


def _rebuild(like: Any, words: np.ndarray, start: int) -> tuple[Any, int]:
    if isinstance(like, np.ndarray):
        end = start + like.size * like.itemsize // 4
        return words[start:end].view(like.dtype).reshape(like.shape), end
    if isinstance(like, int):
        return int(words[start : start + 2].view(np.int64)[0]), start + 2
    if not dataclasses.is_dataclass(like):
        return like, start
    values = {}
    for field in dataclasses.fields(like):
        values[field.name], start = _rebuild(getattr(like, field.name), words, start)
    return dataclasses.replace(like, **values), start
