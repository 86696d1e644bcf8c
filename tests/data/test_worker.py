"""Loader processes end with the run, however it ends."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from occjax.system.child_processes import STOPPING

_LOAD = """
import multiprocessing, sys, time
from pathlib import Path
from tiny_world import tiny_config
from occjax.data.index import load_index
from occjax.data.pipeline import make_train_loader
from occjax.train.parts import training_parts

config = tiny_config(Path(sys.argv[1]))
config.data.workers = 2
loader = make_train_loader(config, load_index(config.data), training_parts(config))
next(loader)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""

# As a process starts, before it runs any of our code.
_START = """
import multiprocessing.process as process
start = process.BaseProcess.start

def noted(self):
    start(self)
    with open(f"/proc/{self.pid}/status") as status:
        print(*(line.split()[1] for line in status if line.startswith("SigBlk")), flush=True)

process.BaseProcess.start = noted
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_run_leaves_no_loader_behind(world):
    path = os.pathsep.join(("tests/support", ".", os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    run = subprocess.Popen(
        [sys.executable, "-c", _LOAD, str(world)], stdout=subprocess.PIPE, text=True, env=environment
    )
    with run:
        loaders = [int(pid) for pid in run.stdout.readline().split()]
        # What asks a run to stop is sent to its loaders too, which go on until it has saved.
        for pid, number in itertools.product(loaders, STOPPING):
            os.kill(pid, number)
        time.sleep(0.5)
        were_running = [is_running(pid) for pid in loaders]
        run.kill()
    assert were_running == [True, True]
    deadline = time.monotonic() + 20
    while any(map(is_running, loaders)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, loaders))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the kernel does not say what is blocked")
def test_loaders_are_deaf_to_requests_from_their_first_moment_on(world):
    path = os.pathsep.join(("tests/support", ".", os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    program = _LOAD.replace("next(loader)", _START + "next(loader)")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(world)], stdout=subprocess.PIPE, text=True, env=environment
    ) as run:
        masks = [int(run.stdout.readline(), 16) for _ in range(2)]
        run.kill()
    wanted = sum(1 << (number - 1) for number in STOPPING)
    assert [mask & wanted for mask in masks] == [wanted, wanted]
