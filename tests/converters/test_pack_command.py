"""The packer's command line: a cluster's two jobs, and misuse."""

import subprocess
import sys
from pathlib import Path

import pytest
from nuscenes_root import write_root

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "converters/pack.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )


def test_two_jobs_pack_both_splits(tmp_path):
    root = write_root(tmp_path / "nuscenes", scenes={"scene-0061": 3, "scene-0003": 1})
    common = (
        *("--config=configs/supervised.py", f"--config.data.root={root}", f"--output={tmp_path / 'out'}"),
        *("--config.data.image_height=32", "--config.data.image_width=48", "--samples_per_shard=2", "--workers=1"),
    )
    stranger = run(*common)
    assert stranger.returncode and "which the tables in" in stranger.stderr and "Traceback" not in stranger.stderr
    common += ("--config.data.cameras=('CAM_FRONT','CAM_FRONT_RIGHT')",)
    first, second = (run(*common, f"--shard={number}/2") for number in range(2))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "train: 2 samples packed" in first.stdout and "MB each" in first.stdout
    assert "val: 1 samples packed" in first.stdout
    assert "train: 1 samples packed" in second.stdout and "val: 0 samples packed" in second.stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("*.array_record")) == [
        "train-00000-of-00002.array_record",
        "train-00001-of-00002.array_record",
        "val-00000-of-00001.array_record",
    ]
    again = run(*common)
    assert again.returncode == 0 and "train: 0 samples packed" in again.stdout and "3 kept" in again.stdout
    damaged = next((root / "samples/LIDAR_TOP").glob("scene-0061*"))
    damaged.write_bytes(b"")
    failed = run(*common, f"--output={tmp_path / 'other'}", "--splits=train")
    assert failed.returncode == 1 and "1 shards failed" in failed.stdout
    assert damaged.name in failed.stderr and "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output=x",), "name the configuration to pack for"),
        (("--config=configs/supervised.py",), "name the folder for the records"),
        (("--config=configs/supervised.py", "--output=x", "--shard=2/2"), "0 <= i < n, such as 0/8, not '2/2'"),
        (("--config=configs/supervised.py", "--output=x", "--config.data.root=/nowhere"), "/nowhere does not exist"),
        (("--config=configs/none.py", "--output=x"), "configs/none.py"),
    ],
)
def test_misuse_is_explained_without_a_stack_trace(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr
