"""Files are whole or absent, and a lock is held by one."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from occjax.storage import locked, write_json, writing


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="killed"), writing(path) as scratch:
        scratch.write_text("half")
        assert scratch.name.startswith(".") and scratch.suffix == ".tmp"
        raise RuntimeError("killed")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


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
