"""Signals ask a run to stop, and are acknowledged at once."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from occjax.train.stop_requests import StopRequests

_TWICE = """
import os, signal, time
from occjax.train.stop_requests import StopRequests
with StopRequests():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(number, caplog):
    caplog.set_level(logging.INFO, "occjax")
    before = signal.getsignal(number)
    with StopRequests() as requests:
        assert requests.received is None
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while "asked to stop" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert requests.received == number
        assert "asked to stop" in caplog.text
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_the_process():
    assert subprocess.run([sys.executable, "-c", _TWICE], check=False, timeout=60).returncode == -signal.SIGTERM
