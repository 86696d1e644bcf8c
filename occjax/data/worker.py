"""Loader processes as they start: kept to one core, off the accelerator, and bound to end with their parent."""

import sys

import cv2

from occjax.system.child_processes import follow_parent
from occjax.system.cpu import keep_freed_memory


def start_worker(worker_index: int, worker_count: int) -> None:
    """Prepares a loader process; grain calls it with the process's number and how many there are."""
    # A run that is asked to stop saves first, for which it may wait for a batch.
    follow_parent()
    cv2.setNumThreads(1)
    keep_freed_memory()
    if "jax" in sys.modules:  # grain's import of jax could claim the accelerator
        sys.modules["jax"].config.update("jax_platforms", "cpu")
