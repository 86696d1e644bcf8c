"""Stop requests: signals that ask a run to save and to stop, instead of ending it at once."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from occjax.system.child_processes import STOPPING

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_GIVEN_UP = "occjax-compiler"  # name of threads that may be left to themselves
Value = TypeVar("Value")


class StopRequested(Exception):
    """A request came while nothing was at stake: counting, compiling, waiting, a validation. It is given up.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class StopRequests:
    """Context in which the first SIGTERM, SIGINT, SIGUSR1, SIGUSR2 or SIGHUP is taken as a request to stop.

    The same signal again ends the process; another one does not, since schedulers send one after the other. What was
    ignored before, as nohup has SIGHUP, is ignored further. The request is acknowledged at once, even while the
    compiler keeps Python from running a signal handler.

    Attributes:
      received: number of the first signal that asked to stop, 0 before.
    """

    def __init__(self):
        self.received = 0
        self._seen: set[int] = set()

    def __enter__(self) -> "StopRequests":
        heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._request) for number in heard}
        # The interpreter's C handler writes a byte to it for every signal that has a Python handler.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # asked of a wakeup descriptor: a signal handler must never wait
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A thread, since Python's own handler waits until the compiler gives the interpreter back, minutes later.
        threading.Thread(target=self._acknowledge, args=(self._reader,), daemon=True).start()
        return self

    def _request(self, number: int, frame: object) -> None:
        # The second time as if nothing stood in between, exit status included.
        if number in self._seen:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._seen.add(number)
        self.received = self.received or number

    @staticmethod
    def _acknowledge(reader: socket.socket) -> None:
        for number in reader.recv(1):
            if number in STOPPING:
                name = signal.Signals(number).name
                _log.info("asked to stop by %s: the state is saved first; %s again ends without saving", name, name)

    def __exit__(self, *exception) -> None:
        signal.set_wakeup_fd(self._fd_before)
        self._writer.close()
        self._reader.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)


def in_a_thread(function: Callable[[], Value], asked: Callable[[], int]) -> Value:
    """`function()`, where that may keep the interpreter from running a signal handler for minutes, as compiling does.

    Raises:
      StopRequested: `asked` gave a signal's number meanwhile. The thread goes on, for nobody.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # whatever it is, it is raised by whoever waits
            future.set_exception(error)

    # Not in a pool, which would keep the process from ending.
    threading.Thread(target=run, name=_GIVEN_UP, daemon=True).start()
    return unless_stopped(future, asked)


def unless_stopped(future: "Future[Value]", asked: Callable[[], int]) -> Value:
    """The result of a future, waited for in turns; raises StopRequested as `in_a_thread`."""
    while not wait([future], _POLL_S).done:
        if number := asked():
            raise StopRequested(number)
    return future.result()


def waiting_thread() -> ThreadPoolExecutor:
    """A pool of one thread for work that is waited for by `unless_stopped`."""
    return ThreadPoolExecutor(1, thread_name_prefix=_GIVEN_UP)


def leave(status: int) -> int:
    """Returns the exit status, or ends the process with it at once where a thread still compiles for nobody.

    Such a thread would be run over by the interpreter's end, which is a segmentation fault now and then.
    """
    if any(thread.name.startswith(_GIVEN_UP) for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
