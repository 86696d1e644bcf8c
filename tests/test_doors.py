"""Every way in leads to the same command line, from any folder, installed or not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("main.py",), "--mode {train,eval,visualize,view,predict,export,dump,config,doctor,benchmark}"),
        (("-m", "occjax"), "--mode {train,eval,visualize,view,predict,export,dump,config,doctor,benchmark}"),
        (("converters/pack.py",), "--samples-per-shard"),
        (("-m", "occjax", "pack"), "--samples-per-shard"),
        (("converters/teacher_to_npz.py",), "--dump-3d-dir"),
        (("converters/weights_from_torch.py",), "--kind {student,resnet}"),
    ],
)
def test_doors_open_from_any_folder(command, says, tmp_path):
    first, *rest = command
    # A file finds the package beside it; a module wants it installed, or on the path.
    is_file = first.endswith(".py")
    environment = os.environ | ({"PYTHONPATH": ""} if is_file else {"PYTHONPATH": str(REPOSITORY)})
    path = str(REPOSITORY / first) if is_file else first
    done = subprocess.run(
        [sys.executable, path, *rest, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_configurations_exist_once_and_inside_the_package():
    assert (REPOSITORY / "configs").resolve() == REPOSITORY / "occjax" / "configs"


def test_the_door_is_a_door():
    assert len((REPOSITORY / "main.py").read_text().splitlines()) <= 120
