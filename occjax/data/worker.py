"""How a loader process starts: kept to one core, off the accelerator, and bound to end with its parent."""

import multiprocessing
import os
import signal
import sys
import threading

import cv2

from occjax.cpu import keep_freed_memory


def start_worker(worker_index: int, worker_count: int) -> None:
    """Prepares a loader process; grain calls it with the process's number and how many there are."""
    # A terminal sends Ctrl-C to loaders too; the run stops them when it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    keep_freed_memory()
    if "jax" in sys.modules:  # grain's import of jax could claim the accelerator
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A run that was killed cannot tell its loaders. They would wait for ever for somebody to take their batches, which
    # lie in shared memory.
    parent.join()
    os._exit(1)
