"""Files are whole or absent, and a lock is held by one."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import occjax
from occjax.storage import locked, remove_abandoned, write_json, writing


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="killed"), writing(path) as scratch:
        scratch.write_text("half")
        assert scratch.name.startswith(".") and scratch.suffix == ".tmp"
        raise RuntimeError("killed")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_writers_left_is_known_by_its_name(tmp_path):
    names = [".lock", ".x.npz.0123456789abcdef.tmp", ".notes.txt", "a.0123456789abcdef.tmp"]
    for name in names:
        (tmp_path / name).write_text("")
    with writing(tmp_path / "file") as scratch:
        scratch.write_text("whole")
        shutil.copy(scratch, tmp_path / scratch.name.replace(".file", ".killed"))
    remove_abandoned(tmp_path, tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".notes.txt", "a.0123456789abcdef.tmp", "file"]


def test_writers_that_count_their_processes_alike_do_not_meet(tmp_path):
    # Threads share the number of their process, as the first processes of two containers do.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_json(tmp_path / "config.json", {"writer": i}), range(400)))
    assert json.loads((tmp_path / "config.json").read_text())["writer"] in range(400)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_lock_is_held_by_one_and_let_go_of_by_the_system(tmp_path):
    path = tmp_path / "folder" / ".lock"
    with locked(path) as first, locked(path) as second:
        assert first and not second
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom occjax.storage import locked\n"
        "with locked(Path(sys.argv[1])) as is_held:\n    print(is_held, flush=True)\n    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        with locked(path) as is_held:
            assert not is_held
        holder.send_signal(signal.SIGKILL)
    with locked(path, wait=True) as is_held:
        assert is_held
    # Where there can be no file, nobody is stopped.
    with locked(path / "below a file") as is_held:
        assert is_held


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path, monkeypatch):
    path, flock = tmp_path / "run/.lock", fcntl.flock

    def flock_too_late(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(path.parent)  # as a run does that came to nothing, between our opening the file and locking it
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with locked(path) as first, locked(path) as second:
        assert first and not second and path.exists()


def versions_of(site, **environment) -> dict:
    """What the storage module of an installation in `site` says of itself."""
    (site / "occjax").mkdir(parents=True)
    for name in ("__init__.py", "storage.py"):
        shutil.copy(Path(occjax.__file__).parent / name, site / "occjax")
    code = "import json; from occjax.storage import versions; print(json.dumps(versions()))"
    environment = os.environ | {"PYTHONPATH": str(site)} | environment
    # From there, since the current folder comes before PYTHONPATH.
    how = {"env": environment, "cwd": site, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", code], **how)
    return json.loads(done.stdout)


def test_the_revision_is_ours_or_none(tmp_path):
    def git(*words):
        who = ("-c", "user.name=u", "-c", "user.email=u@x")
        subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, check=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "x")
    git("tag", "-a", "my-paper", "-m", "x")
    # An environment in somebody's own repository, then a source tree of ours, then no git on the machine.
    assert "git" not in versions_of(tmp_path / "env")
    assert versions_of(tmp_path)["git"].startswith("my-paper")
    assert "git" not in versions_of(tmp_path / "another", PATH=str(tmp_path))
