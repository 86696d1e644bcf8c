"""Processes that share the tasks of a conversion, and hand their results on in the order of the tasks."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from occjax.errors import UserError
from occjax.system.child_processes import follow_parent, starting
from occjax.system.cpu import keep_freed_memory

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    *,
    if_one_dies: UserError,
    chunk_size: int = 1,
) -> Iterator[Result]:
    """Yields `function(task)` for each task; in this process where `workers` is below 2 or there is nothing to share.

    Args:
      function: can be pickled, as tasks and results can.
      tasks: what it is called with.
      workers: the largest number of processes.
      if_one_dies: raised where the system ends a process, as it does for want of memory.
      chunk_size: tasks that travel to a process at once.
    """
    workers = min(workers, len(tasks))
    if workers < 2:
        yield from map(function, tasks)
        return
    # Spawned: a fork of a process that has threads (jax, grain, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    try:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    except OSError:  # no semaphores, of a container whose /dev/shm cannot be written: slower, and as good
        yield from map(function, tasks)
        return
    try:
        # Whoever stops early, by Ctrl-C or an error, closes the inner generator, which cancels what nobody has begun.
        with pool:
            with starting():  # `map` starts them all
                results = pool.map(function, tasks, chunksize=chunk_size)
            yield from results
    except BrokenProcessPool as error:
        raise if_one_dies from error


def start_worker() -> None:
    """Prepares a process of a pool: it finishes what it is writing, whatever asks the conversion to stop."""
    follow_parent()
    cv2.setNumThreads(1)  # every core has a process of its own
    keep_freed_memory()
