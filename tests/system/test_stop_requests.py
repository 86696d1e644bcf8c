"""Signals ask a run to stop, and are acknowledged at once."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from occjax.system.child_processes import STOPPING
from occjax.system.stop_requests import StopRequested, StopRequests, in_a_thread

_TWICE = """
import os, signal, time
from occjax.system.stop_requests import StopRequests
with StopRequests():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_is_a_request(number, caplog, request):
    caplog.set_level(logging.INFO, "occjax")
    # Whoever started the tests may ignore some, and what is ignored stays so.
    before = signal.signal(number, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, before))
    with StopRequests() as requests:
        assert requests.received == 0
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while "asked to stop" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert requests.received == number
        assert "asked to stop" in caplog.text
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_is_ignored_stays_ignored_as_nohup_has_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as requests:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert requests.received == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_signal_than_the_first_one_ends_nothing():
    with StopRequests() as requests:
        # As a scheduler: a warning, then the end of the time.
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.05)
        assert requests.received == signal.SIGUSR1


def test_who_waits_for_a_thread_hears_the_request_and_all_else_arrives():
    goes_on = threading.Event()
    asked = iter([0, signal.SIGUSR2])
    with pytest.raises(StopRequested) as stopped:
        in_a_thread(goes_on.wait, lambda: next(asked))
    goes_on.set()
    assert stopped.value.number == signal.SIGUSR2
    assert in_a_thread(lambda: 7, lambda: 0) == 7
    with pytest.raises(TimeoutError, match="of its own"):
        in_a_thread(lambda: (_ for _ in ()).throw(TimeoutError("of its own")), lambda: 0)


# The thread cannot be interrupted: the status must not wait for it, nor be that of a crash.
_LEAVING = """
import sys, time
from occjax.system.stop_requests import StopRequested, in_a_thread, leave
try:
    in_a_thread(lambda: time.sleep(60), lambda: 1)
except StopRequested:
    print("saved")
sys.exit(leave(7))
"""


def test_a_thread_that_compiles_for_nobody_keeps_no_process_from_its_end():
    result = subprocess.run([sys.executable, "-c", _LEAVING], capture_output=True, text=True, check=False, timeout=50)
    assert (result.returncode, result.stdout) == (7, "saved\n")


def test_the_second_signal_ends_the_process():
    assert subprocess.run([sys.executable, "-c", _TWICE], check=False, timeout=60).returncode == -signal.SIGTERM
