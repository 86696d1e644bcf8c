"""The killer itself: two kills, and a difference is found."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLER = Path(__file__).parent / "run.py"


@pytest.mark.slow
def test_two_kills_leave_what_undisturbed_work_leaves():
    command = [sys.executable, str(KILLER), "--kills=2", "--seed=1", "--kinds=convert,pack"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills, 0 differences" in done.stdout
