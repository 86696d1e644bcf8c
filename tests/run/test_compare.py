"""Runs beside each other: what of a run is compared, its scores, and what it started from."""

import json
import os

import pytest

from occjax.config import Config
from occjax.errors import UserError
from occjax.run import compare as compare_module
from occjax.run.compare import Wanted, compare, main
from occjax.run.workdir import open_workdir

PRETRAINED = {"kind": "backbone", "file": "r50.npz", "sha256": "0123456789abcdef"}
GRID = str(Config().grid.build())


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.setattr(compare_module, "prior_scores", lambda _: {"position": {"miou": 5.0}})


def evaluated(workdir, miou, *, folder=None, mask="truth 0 left out", grid=GRID, **results):
    """Adds an evaluation to a run, which is made if absent."""
    if not (workdir / "config.json").exists():
        open_workdir(workdir, Config())
    content = {
        "subject": "student",
        "step": 400,
        "weights": "ema",
        "split": "val",
        "samples": 12,
        "split_samples": 12,
        "protocols": [{"protocol": "SurroundOcc mIoU/IoU", "mask": mask, "grid": grid, "miou": miou, "iou": None}],
        **results,
    }
    path = workdir / "eval" / (folder or f"step-{content['step']}") / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return workdir


def test_a_row_says_what_its_runs_started_from(tmp_path):
    same = [evaluated(tmp_path / f"same{i}", 10.0 + 2 * i, initialisation=PRETRAINED) for i in range(2)]
    random = {"kind": "random", "file": "", "sha256": ""}
    mixed = [evaluated(tmp_path / "random", 7.0, initialisation=random), evaluated(tmp_path / "old", 9.0, step=200)]
    about, _, heading, _, *rows = compare({"same": same, "mixed": mixed}).splitlines()
    assert about == (
        f"students: split val (12 samples), SurroundOcc mIoU/IoU, truth 0 left out, grid {GRID}, ema weights; per cent"
    )
    assert heading.endswith("| step | started from |")
    assert rows == [
        "| same (2 runs) | 11.00 ± 1.41 | - | - | - | 400 | backbone r50.npz, sha256 0123456789ab |",
        "| mixed (2 runs) | 8.00 ± 1.41 | - | - | - | 200, 400 | random weights; weights that were not recorded |",
        "| position | 5.00 | - | - | - | - | - |",
    ]


def miou_of(workdir, **wanted):
    return float(compare({"run": [workdir]}, Wanted(**wanted)).splitlines()[4].split("|")[2])


def test_only_a_students_whole_evaluation_is_taken_however_new_the_others_are(tmp_path):
    run = evaluated(tmp_path / "run", 47.3)
    evaluated(run, 12.0, step=200)
    evaluated(run, 87.8, folder="teacher", subject="teacher", step=999)
    evaluated(run, 99.0, folder="step-400-first-1", samples=1)
    evaluated(run, 50.0, folder="step-400-best")
    evaluated(run, 60.0, folder="step-400-raw", weights="raw")
    evaluated(run, 70.0, folder="step-400-mini", split="mini")
    evaluated(run, 80.0, folder="step-400-crop", grid="another grid")
    for age, path in enumerate(sorted(run.glob("eval/*/metrics.json"))):
        os.utime(path, (age, age))
    os.utime(run / "eval/step-400/metrics.json", (0, 0))
    assert miou_of(run) == 47.3
    assert miou_of(run, best=True) == 50.0
    assert miou_of(run, weights="raw") == 60.0
    assert miou_of(run, split="mini") == 70.0


def test_what_was_evaluated_otherwise_is_refused(tmp_path):
    run = evaluated(tmp_path / "run", 47.3)
    for name, other in {
        "more": {"samples": 13, "split_samples": 13},
        "grid": {"grid": "x"},
        "mask": {"mask": "y"},
    }.items():
        with pytest.raises(UserError, match=f"do not compare: .*{name} has split val"):
            compare({"one": [run], "other": [evaluated(tmp_path / name, 50.0, **other)]})
    with pytest.raises(
        UserError, match=r"run holds no evaluation of a student on all of split mini .*step-400: split val"
    ):
        compare({"one": [run]}, Wanted(split="mini"))


def test_a_run_without_a_full_evaluation_is_answered_with_the_command(tmp_path):
    run = evaluated(tmp_path / "run", 99.0, folder="step-400-first-1", samples=1)
    evaluated(run, 98.0, folder="of-an-earlier-version", split_samples=None)
    (run / "eval" / "damaged").mkdir()
    (run / "eval" / "damaged" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="--mode=eval .*--config.eval.max_samples=0 .*there: none"):
        compare({"group": [run]})
    with pytest.raises(UserError, match="group 'group' has no run: .*group='runs/group-"):
        compare({"group": []})


def test_the_command_line_takes_folders_and_says_what_it_compared(tmp_path, capsys):
    evaluated(tmp_path / "run-0", 47.3)
    (tmp_path / "run-0.log").write_text("")
    assert main([f"run={tmp_path}/run-*"]) == 0
    assert "split val (12 samples)" in (said := capsys.readouterr().out) and "| run (1 run) | 47.30 |" in said
    assert main([f"run={tmp_path}/run-*", "--best"]) == 2
    assert "--mode=eval" in (said := capsys.readouterr().err) and " --best " in said
