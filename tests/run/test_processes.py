"""Two real processes make one run: one folder, one log, saved and stopped after the same step, and resumed together."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# The command line as it is, with a state of a few numbers in the place of the student's, which takes long to compile,
# and with predictions that are the truth. What Python opens to write to is noted.
_WORKER = """
import json, os, sys, time
from pathlib import Path
from types import SimpleNamespace
import jax
import jax.numpy as jnp
from tiny_state import tiny_state
from occjax.__main__ import main
from occjax.metrics.calibration import FINE_BINS
from occjax.metrics.on_device import VoxelSummary
from occjax.run import train
from occjax.train.checkpoint import Checkpoints
from occjax.train.compiled_step import CompiledStep
from occjax.system.mesh import replicated

saved, save = [], Checkpoints.save
opened = set()

def note(event, details):
    if event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR) and not isinstance(details[0], int):
        opened.add(os.fsdecode(details[0]))

def compile_step(learner, mesh, state, batch):
    def step(state):
        metrics = {"loss": state.step * 1.0, "is_finite": jnp.bool_(True)}
        return state._replace(step=state.step + 1), metrics
    compiled = jax.jit(step, out_shardings=replicated(mesh))
    def call(state, batch):
        time.sleep(0.05)
        return compiled(state)
    return CompiledStep(call, 1e12)

def noted(self, step, state, position):
    saved.append(step)
    save(self, step, state, position)

def summary(batch):
    truth = batch.labels.semantics
    return VoxelSummary(truth, jnp.zeros((len(truth), 1, 2, FINE_BINS), int), None)

Checkpoints.save = noted
train.make_learner = lambda config, *_: SimpleNamespace(is_logged=lambda step: True)
train.initial_state = lambda _, sharding: jax.device_put(tiny_state(), sharding)
train.abstract_state = lambda _: jax.eval_shape(tiny_state)
train.make_summary_fn = lambda *_: lambda weights: summary
train.compile_step = compile_step
sys.addaudithook(note)
status = main(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps({"status": status, "saved": saved, "opened": sorted(opened)}))
"""


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    """Starts both processes of a run in a workdir, with further options; and the files that they tell its end in."""
    folder = tmp_path_factory.mktemp("start")
    config = folder / "tiny.py"
    config.write_text(
        "from pathlib import Path\nfrom tiny_world import tiny_config\n"
        f"def get_config():\n    return tiny_config(Path({str(world)!r}))\n"
    )

    def start(workdir, *options):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=4", "")
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests/support'}"}
        environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
        ends = [folder / f"{port}-{i}.json" for i in range(2)]
        arguments = ["--distributed", f"--config={config}", f"--workdir={workdir}", *options]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(ends[i]), *arguments],
                env={**environment, "JAX_PROCESS_ID": str(i)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=REPOSITORY,
            )
            for i in range(2)
        ]
        started.extend(processes)
        return processes, ends

    started: list[subprocess.Popen] = []
    yield start
    # Where a test failed, they may be waiting for each other.
    for process in started:
        process.kill()


def outcome(processes, ends):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (json.loads(end.read_text()) for end in ends)
    assert first["status"] == second["status"] == 0 and first["saved"] == second["saved"]
    return outputs, first["saved"], (first["opened"], second["opened"])


def written(opened, workdir):
    """Names of what was opened to be written in a folder, checkpoints aside, in which every process has its part."""
    names = {path.removeprefix(f"{workdir}/") for path in opened if path.startswith(f"{workdir}/")}
    return {name for name in names if not name.startswith(("checkpoints/", "best/"))}


def test_one_is_told_to_stop_and_both_do_after_the_same_step(start, tmp_path):
    workdir = tmp_path / "run"
    by_clock = ("--config.train.checkpoint_every=0", "--config.train.checkpoint_minutes=0.01")
    processes, ends = start(workdir, "--config.train.steps=1000", *by_clock)
    deadline = time.monotonic() + 200
    # Until the clock has had a checkpoint written.
    while not list(workdir.glob("checkpoints/[0-9]*")) and time.monotonic() < deadline:
        assert [process.poll() for process in processes] == [None, None], processes[0].communicate()
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    outputs, saved, _ = outcome(processes, ends)
    *by_clock_alone, stopped = saved
    assert by_clock_alone
    assert all(later - earlier > 3 for earlier, later in itertools.pairwise(by_clock_alone))
    assert stopped < 1000 and f"stopped on request after step {stopped}" in outputs[0]
    assert (workdir / "checkpoints" / str(stopped) / "ema").is_dir()
    # Each step once, by one process.
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, stopped + 1))
    assert all(abs(sum(share for name, share in line.items() if "time/" in name) - 1) < 1e-6 for line in lines)
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    assert "occjax" not in outputs[1] and "step" not in outputs[1]

    # Together they go on from there.
    outputs, saved, opened = outcome(*start(workdir, f"--config.train.steps={stopped + 2}", *by_clock))
    assert f"resumed from step {stopped}" in outputs[0] and saved[-1] == stopped + 2
    # Each scored its part of the split; the first has the whole, shows it and writes it.
    (metrics,) = workdir.glob("eval/*/metrics.json")
    assert json.loads(metrics.read_text())["samples"] == 3
    assert str(metrics) in outputs[0] and str(metrics) not in outputs[1]
    first, second = (written(by, workdir) for by in opened)
    assert second == set() and {Path(name).name.split(".")[1] for name in first} > {"jsonl", "metrics", "table"}


def test_nothing_to_join_is_one_line(monkeypatch):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "JAX_C"))}
    command = [sys.executable, "-c", "from occjax.system.processes import join_processes; join_processes()"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert "UserError: --distributed finds no run to join" in result.stderr
    assert "JAX_COORDINATOR_ADDRESS=host:port" in result.stderr
