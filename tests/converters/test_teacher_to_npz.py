"""The converter's command line, on the real keyframes' dump and on misuse."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occjax.benchmark import conversion as benchmark
from occjax.grid import SURROUNDOCC_GRID
from occjax.targets.folder import TeacherFolder

SCRIPT = Path(__file__).resolve().parents[2] / "converters/teacher_to_npz.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def real(shared_dir):
    return shared_dir / "data/nuscenes_real"


def copied_dump(real, folder, change=None):
    """The dump's voxels, each array changed, or the files of the two samples swapped."""
    for split in ("train", "val"):
        source = real / "teacher_dump/occ3d_logits" / split / "000000_0_3d_logits_fp16.npz"
        target = folder / "occ3d_logits" / split / source.name
        target.parent.mkdir(parents=True)
        if change is None:
            shutil.copy(str(source).replace(split, {"train": "val", "val": "train"}[split]), target)
        else:
            np.savez(target, logits=change(np.load(source)["logits"]))
    return folder


def test_the_real_dump_converts_and_its_maps_are_those_of_the_dump_script(real, tmp_path):
    done = run(
        *("--input", real / "teacher_dump", "--output", tmp_path / "out", "--data-root", real),
        *("--index-dir", tmp_path, "--workers", 1),
        *("--dump-occ3d-dir", tmp_path / "occ3d_sem", "--dump-bev-dir", tmp_path / "bev_sem"),
        *("--dump-gt-bev-vis-dir", tmp_path / "gt_vis"),
    )
    assert done.returncode == 0, done.stderr
    assert "true pairing" in done.stdout and "2 samples written" in done.stdout
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["mean_kl_nats"] < 1e-3 and manifest["bytes_per_sample"] < 600_000
    folder = TeacherFolder(tmp_path / "out", SURROUNDOCC_GRID)
    assert folder.missing(["ca9a282c9e77460f8360f564131a8af5", "fd8420396768425eabec9bdddf7e64b6"]) == []
    for kind in ("occ3d_sem", "bev_sem"):
        for split in ("train", "val"):
            theirs = np.load(real / f"teacher_dump/{kind}/{split}/000000_0_{kind}.npy")
            ours = np.load(tmp_path / f"{kind}/{split}/000000_0_{kind}.npy")
            assert (ours == theirs).mean() > 0.9999
    assert (tmp_path / "gt_vis/val/000000_0_gt_bev_sem.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (None, "order of the samples"),
        (lambda a: a.swapaxes(1, 2), "x and y swapped"),
        pytest.param(lambda a: np.roll(a, 1, 1), "shifted by +1 voxel along x", marks=pytest.mark.slow),
        (lambda a: np.roll(a, -1, 2), "shifted by -1 voxel along y"),
        pytest.param(lambda a: np.roll(a, 1, 3), "shifted by +1 voxel along z", marks=pytest.mark.slow),
    ],
)
def test_the_real_dump_misaligned_is_refused(real, tmp_path, change, cause):
    dump = copied_dump(real, tmp_path / "dump", change)
    done = run("--input", dump, "--output", tmp_path / "out", "--data-root", real, "--index-dir", tmp_path)
    assert done.returncode == 2 and cause in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_real_bev_maps_alone(real, tmp_path):
    (tmp_path / "dump").mkdir()
    shutil.copytree(real / "teacher_dump/bev_prob", tmp_path / "dump/bev_prob")
    done = run(
        *("--input", tmp_path / "dump", "--output", tmp_path / "out", "--data-root", real, "--index-dir", tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["value_kind"] == {"max_over_z": 2}


def test_damaged_input_ends_with_a_list_and_a_status(real, tmp_path):
    dump = copied_dump(real, tmp_path / "dump", lambda a: a)
    broken = dump / "occ3d_logits/val/000000_0_3d_logits_fp16.npz"
    broken.write_bytes(broken.read_bytes()[:100_000])
    done = run("--input", dump, "--output", tmp_path / "out", "--data-root", real, "--index-dir", tmp_path)
    assert done.returncode == 1
    assert str(broken) in done.stderr and "1 failed" in done.stdout
    assert len(list((tmp_path / "out").glob("*.npz"))) == 1


def test_the_benchmark_states_rate_ratio_size_loss_and_decoding(real, capsys):
    assert benchmark.main([str(real / "teacher_dump"), "--repeats=1"]) == 0
    said = capsys.readouterr().out
    for words in (
        "2 samples of",
        "samples/s per core",
        "times numpy.load",
        "34,149 keyframes",
        "mean KL",
        "ms on one core",
    ):
        assert words in said
    assert benchmark.main([str(real / "gts")]) == 2
    assert "no .npz" in capsys.readouterr().err


def test_options_may_be_spelt_as_the_dump_script_logs_them(tmp_path):
    done = run("--input", tmp_path, "--output", tmp_path / "out", "--bev_priority_ids=4,x", "--max_samples=1")
    assert done.returncode == 2 and "--bev-priority-ids must be" in done.stderr


def test_misuse_is_answered_with_the_remedy(tmp_path):
    (tmp_path / "v1.0-trainval").mkdir()
    done = run("--input", tmp_path / "none", "--output", tmp_path / "out", "--data-root", tmp_path)
    assert done.returncode == 2 and "does not exist" in done.stderr and "Traceback" not in done.stderr
    done = run("--input", tmp_path, "--output", tmp_path / "out", "--data-root", tmp_path / "none")
    assert done.returncode == 2 and "--data-root" in done.stderr and "quickstart" not in done.stderr
    done = run("--input", tmp_path, "--output", tmp_path / "out", "--data-root", tmp_path, "--version", "v1.0-mini")
    assert done.returncode == 2 and "found v1.0-trainval; name another with --version" in done.stderr
    done = run("--input", tmp_path, "--output", tmp_path / "out", "--spatial-shape", "100,100,8")
    assert done.returncode == 2 and "--source-grid" in done.stderr
    done = run("--input", tmp_path, "--output", tmp_path / "out", "--infos", "train")
    assert done.returncode == 2 and "SPLIT=FILE" in done.stderr


def test_torch_is_not_needed(tmp_path):
    code = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}, run_name='x'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
