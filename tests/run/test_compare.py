"""Runs beside each other: scores, and what they started from."""

import json

import pytest

from occjax.config import Config
from occjax.errors import UserError
from occjax.run import compare as compare_module
from occjax.run.compare import compare
from occjax.run.workdir import open_workdir

PRETRAINED = {"kind": "backbone", "file": "r50.npz", "sha256": "0123456789abcdef"}


def evaluated_run(workdir, miou, **results):
    open_workdir(workdir, Config())
    (workdir / "eval" / "step-1").mkdir(parents=True)
    content = {"protocols": [{"miou": miou, "iou": None}], **results}
    (workdir / "eval" / "step-1" / "metrics.json").write_text(json.dumps(content))
    return workdir


def test_a_row_says_what_its_runs_started_from(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_module, "prior_scores", lambda _: {"position": {"miou": 5.0}})
    same = [evaluated_run(tmp_path / f"same{i}", 10.0 + 2 * i, initialisation=PRETRAINED) for i in range(2)]
    mixed = [
        evaluated_run(tmp_path / "random", 7.0, initialisation={"kind": "random", "file": "", "sha256": ""}),
        evaluated_run(tmp_path / "old", 9.0),
    ]
    heading, _, *rows = compare({"same": same, "mixed": mixed}).splitlines()
    assert heading.endswith("| started from |")
    assert rows == [
        "| same (2 runs) | 11.00 ± 1.41 | - | - | - | backbone r50.npz, sha256 0123456789ab |",
        "| mixed (2 runs) | 8.00 ± 1.41 | - | - | - | random weights; weights that were not recorded |",
        "| position | 5.00 | - | - | - | - |",
    ]


def test_a_run_without_an_evaluation_is_named(tmp_path):
    open_workdir(tmp_path / "run", Config())
    with pytest.raises(UserError, match="run holds no evaluation"):
        compare({"group": [tmp_path / "run"]})
    with pytest.raises(UserError, match="no run matches group 'group'"):
        compare({"group": []})
