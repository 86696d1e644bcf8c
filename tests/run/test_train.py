"""Runs of the command line: ended in every way and resumed, they do what an uninterrupted run does, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tiny_world import tiny_config

from occjax.models.resnet import save_backbone_weights
from occjax.models.student import abstract_student
from occjax.run.workdir import open_workdir
from occjax.run_config import load_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment():
    """One device as on a user's machine; what one run compiles the next one finds."""
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=4", "")
    return {**os.environ, "XLA_FLAGS": flags}


def command(config_file: Path, workdir: Path, *extra: str) -> list[str]:
    return [sys.executable, "main.py", f"--config={config_file}", f"--workdir={workdir}", *extra]


@pytest.fixture(scope="module")
def config_file(world, tmp_path_factory):
    """A configuration file that rebuilds the tiny configuration from JSON."""
    folder = tmp_path_factory.mktemp("config")
    open_workdir(folder / "source", tiny_config(world))
    path = folder / "tiny.py"
    path.write_text(
        "from pathlib import Path\nfrom occjax.run_config import load_config\n"
        f"def get_config():\n    return load_config(Path({str(folder / 'source')!r}))\n"
    )
    return path


def losses(workdir: Path) -> list[tuple[int, float, float]]:
    entries = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return [(e["step"], e["loss"], e["grad_norm"]) for e in entries if e["group"] == "train"]


def complete(config_file: Path, environment: dict[str, str], workdir: Path) -> str:
    """Runs to the end; what it prints."""
    result = subprocess.run(
        command(config_file, workdir), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def uninterrupted(config_file, environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, complete(config_file, environment, workdir)


def interrupt(config_file, environment, workdir, *, after_step: int, how: signal.Signals) -> tuple[int, str]:
    """Starts a run, sends the signal once the step is logged, and returns exit status and output."""
    with subprocess.Popen(
        command(config_file, workdir), cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.time() + 300
        log = workdir / "log.jsonl"
        while time.time() < deadline and process.poll() is None:
            if log.exists() and f'"step": {after_step},' in log.read_text():
                break
            time.sleep(0.01)
        process.send_signal(how)
        output = process.communicate(timeout=300)[0]
        return process.returncode, output


def test_the_run_ends_with_a_table_and_the_paths_of_what_it_wrote(uninterrupted):
    workdir, output = uninterrupted
    assert [step for step, *_ in losses(workdir)] == [1, 2, 3, 4, 5, 6]
    for wanted in ("mIoU", "driveable_surface", "metrics.json", "checkpoints"):
        assert wanted in output
    assert "samples/s" in output
    assert "left" in output
    assert "the student starts from random weights" in output and "of step 6, from random weights, 3 samples" in output
    (metrics,) = workdir.glob("eval/*/metrics.json")
    assert json.loads(metrics.read_text())["initialisation"]["kind"] == "random"
    assert load_config(workdir).name == "tiny"
    entries = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert all(entry["gradient_ratio"] > 0.01 for entry in entries if entry["group"] == "train")


def test_a_killed_run_resumes_bit_for_bit(config_file, environment, uninterrupted, tmp_path):
    workdir = tmp_path / "cut"
    status, _ = interrupt(config_file, environment, workdir, after_step=5, how=signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert len(losses(workdir)) < 6
    assert "resumed from step" in complete(config_file, environment, workdir)
    assert losses(workdir) == losses(uninterrupted[0])


# Slow, because two processes that are told to stop are tested by default: tests/run/test_processes.py.
@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_its_last_step_and_goes_on_from_there(
    config_file, environment, uninterrupted, tmp_path
):
    workdir = tmp_path / "asked"
    status, output = interrupt(config_file, environment, workdir, after_step=1, how=signal.SIGTERM)
    assert status == 0, output
    assert "stopped on request" in output
    stopped_at = losses(workdir)[-1][0]
    assert stopped_at < 5
    assert f"resumed from step {stopped_at}" in complete(config_file, environment, workdir)
    assert losses(workdir) == losses(uninterrupted[0])


def test_eval_reads_the_workdir_and_needs_no_configuration(environment, uninterrupted):
    workdir, _ = uninterrupted
    result = subprocess.run(
        [sys.executable, "main.py", "--mode=eval", f"--workdir={workdir}", "--config.eval.pictures=0"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "mIoU" in result.stdout


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_step_terms_and_tokens(world, config_file, environment, tmp_path):
    workdir = tmp_path / "hot"
    # By weights that overflow: another learning rate would be another program to compile.
    config = tiny_config(world)
    _, params, batch_stats = abstract_student(config.model, config.grid.build())
    arrays = flatten_dict(params["backbone"]) | flatten_dict(batch_stats["backbone"])
    save_backbone_weights(
        tmp_path / "hot.npz", {name: np.full(x.shape, 3e38, np.float32) for name, x in arrays.items()}
    )
    result = subprocess.run(
        command(config_file, workdir, f"--config.model.backbone.weights={tmp_path}/hot.npz"),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "is not finite" in result.stderr
    assert "samples:" in result.stderr
    assert "cross_entropy" in result.stderr
    assert "Traceback" not in result.stderr
