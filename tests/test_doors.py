"""Every way in leads to the same command line, from any folder, installed or not."""

import importlib
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


@pytest.mark.parametrize(
    ("door", "arguments"),
    [
        ("occjax.__main__", ["--mode=eval", "--workdir={}/none"]),
        ("occjax.__main__", ["--config={}/none.py"]),
        ("occjax.__main__", ["convert-teacher", "--input={}/none", "--output={}/out", "--data-root={}/none"]),
        ("occjax.__main__", ["convert-weights", "--kind=resnet", "--input={}/none.pth", "--output={}/out.npz"]),
        ("occjax.__main__", ["convert-weights", "--kind=student", "--input={}/none.pth", "--workdir={}/out"]),
        ("occjax.__main__", ["pack", "--config={}/none.py", "--output={}/out"]),
        ("occjax.run.compare", ["name={}/none"]),
        ("occjax.metrics.__main__", ["--predictions={}/none", "--labels={}/none"]),
        ("occjax.drawing.__main__", ["{}/none.npz", "--output={}/out.png"]),
        ("occjax.benchmark.conversion", ["{}/none"]),
    ],
)
def test_whatever_is_refused_is_one_line_and_status_two(door, arguments, tmp_path, capfd, monkeypatch):
    arguments = [argument.format(tmp_path) for argument in arguments]
    monkeypatch.setattr(sys, "argv", [door, *arguments])
    try:
        status = importlib.import_module(door).main(arguments)
    except SystemExit as end:
        status = end.code
    said = capfd.readouterr().err
    assert status == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    assert not list(tmp_path.iterdir())
