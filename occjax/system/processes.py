"""Processes of one run: how they find each other, and what the first of them does or knows for all."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from occjax.errors import UserError

Value = TypeVar("Value")

_PATIENCE_S = 6 * 3600  # the first process may generate a city or read the tables of a slow disk meanwhile
_waits = itertools.count()


def join_processes() -> None:
    """Joins the other processes of the run; call it before jax is asked for its devices.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say which they are; without them SLURM, Open MPI and
    whatever else `jax.distributed.initialize` knows.

    Raises:
      UserError: nothing says which processes there are, or they were not found.
    """
    # By hand, since jax 0.7 reads nothing but the address.
    texts = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        count, number = (int(text) if text else None for text in texts)
        before = signal.getsignal(signal.SIGTERM)
        jax.distributed.initialize(num_processes=count, process_id=number)
        # jax would only take note of the signal, for loops that ask it; whatever else went on could not be ended.
        signal.signal(signal.SIGTERM, before)
    except (ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"--distributed finds no run to join: {error}; start it by srun or mpirun, or set JAX_COORDINATOR_ADDRESS="
            "host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID=0, 1, ... for each"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes what a run has once; true of a process that is alone."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Returns once every process is here; at once where there is one process."""
    if jax.process_count() > 1:
        # Not by a collective, of which some kinds end after half a minute of waiting. Every wait has a name of its own,
        # and all processes come to all of them in the same order.
        wait = ocp.multihost.get_barrier_sync_fn()
        wait(key=f"occjax-{next(_waits)}", timeout_ms=_PATIENCE_S * 1000)


def from_first(function: Callable[[], Any]) -> Any:
    """What `function` returns to the first process, which alone calls it; every process gets it.

    Args:
      function: to something that JSON can hold.

    Raises:
      UserError: `function` raised one.
    """
    if jax.process_count() == 1:
        return function()
    outcome, failure = {}, None
    if is_first():
        try:
            outcome = {"value": function()}
        except UserError as error:
            # Told to the others, who would wait for ever for a process that is gone.
            outcome, failure = {"error": str(error)}, error
    wait_for_all()
    text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    text = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    outcome = json.loads(np.asarray(text).tobytes())
    if "error" in outcome:
        raise failure or UserError(outcome["error"])
    return outcome["value"]


def after_first(function: Callable[[], Value]) -> Value:
    """`function` on every process, the others after the first: they find what it has written.

    Raises:
      UserError: `function` raised one.
    """
    found: list[Value] = []
    from_first(lambda: found.append(function()))
    return found[0] if found else function()
