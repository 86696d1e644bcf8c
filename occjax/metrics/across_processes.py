"""Merging of metric states: two of them, or those of all processes, in 64 bits.

A state is a frozen dataclass that jax knows as a tree (`jax.tree_util.register_dataclass`) of counts: numpy arrays and
integers, which add up. What they are counted on, a grid or a label set, is static.
"""

import operator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from occjax.grid import GridMismatchError
from occjax.system.processes import wait_for_all

State = TypeVar("State")


def merge(one: State, other: State) -> State:
    """Both sets of samples together.

    Raises:
      GridMismatchError: the states count other things, or lie on different grids.
    """
    # Grids and label sets are static: structures tell them apart before counts of different things are added.
    if jax.tree.structure(one) != jax.tree.structure(other):
        raise GridMismatchError(
            f"merging scores of different grids, label sets or contents: {jax.tree.structure(one)} and "
            f"{jax.tree.structure(other)}; score each by itself"
        )
    return jax.tree.map(operator.add, one, other)


def merge_over_processes(state: State) -> State:
    """The merged state of every process of a distributed run; `state` itself where there is one process.

    Every process must call it with a state of the same kind.
    """
    if jax.process_count() == 1:
        return state
    # However much longer another one took for its samples.
    wait_for_all()
    # Every process has the same leaves in the same order, since the structure is static.
    leaves, structure = jax.tree.flatten(state)
    arrays = [np.asarray(leaf) for leaf in leaves]
    # As 32-bit words, because jax would cut 64-bit numbers to 32 bits.
    words = np.concatenate([array.ravel().view(np.int32) for array in arrays])
    gathered = np.asarray(multihost_utils.process_allgather(words))  # [processes, words]
    ends = np.cumsum([array.nbytes // 4 for array in arrays])[:-1]
    totals = [
        np.ascontiguousarray(part).view(array.dtype).sum(0).reshape(array.shape)
        for array, part in zip(arrays, np.split(gathered, ends, axis=1), strict=True)
    ]
    # Plain integers, such as the number of samples, come back as such: metrics.json takes no numpy numbers.
    return jax.tree.unflatten(structure, [total if total.ndim else total.item() for total in totals])
