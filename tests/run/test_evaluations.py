"""No two evaluations that mean different things share a folder."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.run.evaluations import evaluation_dir
from occjax.run.workdir import open_workdir


def split_of_12(name):
    fields = dict.fromkeys((field.name for field in dataclasses.fields(SplitIndex)), np.zeros(0))
    return SplitIndex(**fields | {"name": name, "root": Path(), "cameras": (), "sample_token": np.zeros(12, "S1")})


def named(workdir, split="val", **changes):
    config, options = Config(), {"step": 400}
    for path, value in changes.items():
        if path in ("step", "best"):
            options[path] = value
        else:
            section, _, field = path.partition("_")
            setattr(getattr(config, section), field, value)
    folder = evaluation_dir(config, workdir, split_of_12(split), **options)
    assert folder.parent == workdir / "eval"
    return folder.name


@pytest.mark.parametrize("is_run", [True, False])
def test_the_name_says_what_is_unlike_the_run_itself(tmp_path, is_run):
    if is_run:
        open_workdir(tmp_path, Config())
    assert named(tmp_path) == "step-400"
    assert named(tmp_path, best=True) == "step-400-best"
    assert named(tmp_path, step=None) == "teacher"
    # More than there are is all of them.
    assert named(tmp_path, eval_max_samples=12) == "step-400" != named(tmp_path, eval_max_samples=11)
    assert named(tmp_path, step=None, eval_max_samples=1, split="mini_val") == "teacher-mini_val-first-1"
    assert named(tmp_path, eval_weights="raw", best=True) == "step-400-best-raw"
    # The teacher's files have no weights to choose.
    assert named(tmp_path, eval_weights="raw", step=None) == "teacher"


def test_other_grids_and_labels_than_the_runs_are_named(tmp_path):
    config = Config()
    config.data.val_split, config.grid.shape = "mini_val", (64, 64, 12)
    open_workdir(tmp_path, config)
    assert named(tmp_path, split="mini_val", grid_shape=(64, 64, 12)) == "step-400"
    assert named(tmp_path, split="mini_val") == "step-400-lidar_-50x-50x-5_0.5_200x200x16"
    assert named(tmp_path, grid_shape=(64, 64, 12), data_labels="occ3d") == "step-400-val-occ3d"


def test_a_run_of_another_version_is_evaluated_all_the_same(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"of_another": 1}}')
    assert named(tmp_path) == "step-400"
