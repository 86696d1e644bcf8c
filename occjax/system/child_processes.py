"""Child processes of a run: they leave its signals to it, and end when it ends, however that comes."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

# What asks a run to stop, and is sent to all of its processes at once: Ctrl-C by a terminal, SIGTERM by containers,
# SIGUSR1 and SIGUSR2 by schedulers some time before, SIGHUP by a session that closes.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Context in which to start children: a signal that asks to stop does not end them, from their first moment on.

    They inherit what this thread does not hear meanwhile; it hears of it at the end.
    """
    # Whoever starts first starts this one too, and then hears of SIGINT and SIGTERM again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """To be called by a child first of all: it stops when its parent says so, or is gone."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    _watch_parent()


def end_with_parent() -> None:
    """To be called by a child whose work is worth nothing without its parent: any signal ends it, without a trace."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    _watch_parent()


def _watch_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A parent that was killed cannot tell its children. They would wait for ever for somebody to take what they made.
    parent.join()
    os._exit(1)
