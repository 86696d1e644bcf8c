"""What goes wrong outside the program is one line with its remedy; a defect is none."""

import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import jax
import pytest

from occjax.errors import UserError
from occjax.storage import writing
from occjax.system.failures import told


def failure(number: int, path: object = "/data/x.npz") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (failure(errno.ENOSPC), ("cannot write /data/x.npz: No space left", "MB free in /", "make room")),
        (failure(errno.EDQUOT), ("quota exceeded", "make room")),
        (failure(errno.EROFS), ("cannot write /data/x.npz", "read-only; name a folder elsewhere")),
        (failure(errno.ENOENT), ("No such file or directory: /data/x.npz",)),
        (failure(errno.EIO, b"/data/x.npz"), ("cannot read or write /data/x.npz: Input/output error",)),
        (failure(errno.EMFILE), ("too many open files", "ulimit -n")),
        (OSError("1000 requested and 17 written"), ("1000 requested and 17 written",)),
        (MemoryError("Unable to allocate 3.00 GiB"), ("no memory for that (Unable to allocate 3.00 GiB)", "lower")),
        (BrokenProcessPool("gone"), ("a worker process died", "fewer workers")),
        (RuntimeError("can't start new thread"), ("ulimit -u",)),
        (UserError("the rule"), ("the rule",)),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.\n  of the heap"),
            ("no room for that (Out of memory allocating 12 bytes. of the heap", "JAX_PLATFORMS=cpu"),
        ),
    ],
)
def test_what_lies_outside_is_one_line(error, words):
    line = told(error)
    assert line is not None and "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), AssertionError(), RuntimeError("x"), TimeoutError("of its own")]
)
def test_a_defect_is_not(error):
    assert told(error) is None


def test_the_remedy_for_a_full_device_is_the_commands():
    assert "lower that" in (told(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x"), device_remedy="lower that") or "")


def test_who_owns_what_may_not_be_entered_is_named(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir(mode=0o700)
    # As it is for anybody but root, who may enter everything.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "theirs")
    line = told(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "theirs/file")))
    assert line is not None and f"{tmp_path}/theirs belongs to user " in line and "mode 700" in line


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(platform):
    code = "import jax\nfrom occjax.system.command_line import status\nstatus(lambda: len(jax.devices()))"
    environment = os.environ | {"JAX_PLATFORMS": platform}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"error: JAX_PLATFORMS={platform} asks for devices that are not there" in said.stderr
    assert "cuda12" in said.stderr and "Traceback" not in said.stderr


_LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from occjax.system.command_line import status
from occjax.storage import writing
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
def run():
    with writing(Path(sys.argv[1]) / "big.npz", suffix=".npz") as scratch:
        np.savez(scratch, a=np.zeros(10_000))
sys.exit(status(run))
"""


def test_a_file_that_breaks_off_on_the_way_is_named_and_nothing_of_it_stays(tmp_path):
    said = subprocess.run([sys.executable, "-c", _LIMITED, tmp_path], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and f"error: cannot write {tmp_path}/big.npz: File too large" in said.stderr
    assert said.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_whatever_numpy_calls_it_the_file_is_named(tmp_path):
    with pytest.raises(OSError) as error, writing(tmp_path / "a.npy"):
        raise OSError("80000 requested and 9936 written")
    assert error.value.filename == str(tmp_path / "a.npy")
    assert "a.npy: 80000 requested" in (told(error.value) or "")
