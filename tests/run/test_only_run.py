"""One training at a time in a workdir, and nothing left of one that came to nothing."""

import datetime
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from occjax.run.only_run import only_run


def test_of_two_that_start_at_once_one_trains_and_the_other_is_told(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom occjax.system.command_line import status\n"
        "from occjax.run.only_run import only_run\n"
        "def run():\n"
        "    with only_run(Path(sys.argv[1])):\n"
        "        print('trains', flush=True)\n"
        "        sys.stdin.read()\n"
        "    return 0\n"
        "sys.exit(status(run))\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    two = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], **pipes) for _ in range(2)]
    # One ends at once; the other one trains until its input does.
    latest = time.monotonic() + 60
    while all(process.poll() is None for process in two):
        if time.monotonic() > latest:
            for process in two:
                process.kill()
            pytest.fail("two train in one folder")
        time.sleep(0.05)
    two.sort(key=lambda process: process.poll() is None)
    (_, said), (trained, silent) = (process.communicate(timeout=60) for process in two)
    assert [process.returncode for process in two] == [2, 0]
    assert said.startswith("error: another process trains in ") and "choose another --workdir" in said
    assert (trained, silent) == ("trains\n", "")
    pid = next(process.pid for process in two if process.returncode == 0)
    assert f"(host {socket.gethostname()}, process {pid}, since {datetime.date.today().year}-" in said
    with only_run(tmp_path / "run"):
        pass  # free again


def fail_in(workdir, *made):
    with pytest.raises(ZeroDivisionError), only_run(workdir):
        for name in made:
            path = workdir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        raise ZeroDivisionError


def test_a_start_that_fails_leaves_nothing(tmp_path):
    fail_in(tmp_path / "runs/new", "config.json", "tensorboard/events", "checkpoints/2.orbax-checkpoint-tmp/x")
    assert not (tmp_path / "runs").exists()
    # What somebody else has put there stays.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("")
    fail_in(tmp_path / "mine", "config.json")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_the_lock_is_the_last_to_be_removed(tmp_path, monkeypatch):
    removed, unlink = [], Path.unlink

    def noted(path, **how):
        removed.append(path.name)
        unlink(path, **how)

    monkeypatch.setattr(Path, "unlink", noted)
    fail_in(tmp_path / "run", *(f"{n}.json" for n in range(20)))
    assert len(removed) == 21 and removed[-1] == ".lock"


@pytest.mark.parametrize("learnt", ["checkpoints/2/_CHECKPOINT_METADATA", "log.jsonl"])
def test_what_was_learnt_stays(tmp_path, learnt):
    fail_in(tmp_path / "run", "config.json", learnt)
    assert (tmp_path / "run/config.json").exists() and (tmp_path / "run" / learnt).exists()
