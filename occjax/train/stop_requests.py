"""Stop requests: SIGTERM and SIGINT ask a run to stop after its step, instead of ending it at once."""

import logging
import signal
import socket
import threading

_log = logging.getLogger(__name__)


class StopRequests:
    """Context in which the first SIGTERM or SIGINT is taken as a request; a second one ends the process.

    The request is acknowledged at once, even while the compiler keeps Python from running a signal handler.

    Attributes:
      received: number of the signal that asked to stop, or None.
    """

    def __init__(self):
        self.received: int | None = None

    def __enter__(self) -> "StopRequests":
        self._before = {s: signal.signal(s, self._request) for s in (signal.SIGTERM, signal.SIGINT)}
        # The interpreter's C handler writes a byte to it for every signal that has a Python handler.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # asked of a wakeup descriptor: a signal handler must never wait
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A thread, since Python's own handler waits until the compiler gives the interpreter back, minutes later.
        threading.Thread(target=self._acknowledge, args=(self._reader,), daemon=True).start()
        return self

    def _request(self, number: int, frame: object) -> None:
        # The second time as if nothing stood in between, exit status included.
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number

    @staticmethod
    def _acknowledge(reader: socket.socket) -> None:
        numbers = reader.recv(1)
        if numbers and numbers[0] in (signal.SIGTERM, signal.SIGINT):
            _log.info("asked to stop: this step is finished and saved first; ask again to end without saving")

    def __exit__(self, *exception) -> None:
        signal.set_wakeup_fd(self._fd_before)
        self._writer.close()
        self._reader.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)
