"""A workdir belongs to one run."""

import json

import pytest

from occjax.config import Config
from occjax.run.workdir import WorkdirError, load_config, open_workdir


def test_configuration_round_trips(tmp_path):
    config = Config()
    config.grid.shape = (10, 20, 3)
    config.model.depth.bins = 7
    open_workdir(tmp_path, config)
    assert load_config(tmp_path) == config
    written = json.loads((tmp_path / "config.json").read_text())
    assert {"jax", "flax", "occjax"} <= set(written["versions"])


def start_run(workdir):
    open_workdir(workdir, Config())
    (workdir / "checkpoints" / "10").mkdir(parents=True)


def test_a_start_without_a_checkpoint_claims_nothing(tmp_path):
    open_workdir(tmp_path, Config())
    other = Config()
    other.model.depth.bins = 7
    assert open_workdir(tmp_path, other) == []
    assert load_config(tmp_path) == other


def test_another_model_is_refused_and_named(tmp_path):
    start_run(tmp_path)
    other = Config()
    other.model.depth.bins = 7
    other.grid.shape = (100, 100, 16)
    with pytest.raises(WorkdirError, match=r"grid\.shape: was \(200, 200, 16\), now \(100(.|\n)*model\.depth\.bins"):
        open_workdir(tmp_path, other)
    assert load_config(tmp_path) == Config()


def test_schedule_and_paths_may_change_with_a_remark(tmp_path):
    start_run(tmp_path)
    other = Config()
    other.data.root = "/elsewhere"
    other.train.epochs = 48
    remarks = open_workdir(tmp_path, other)
    assert sorted(r.split(":")[0] for r in remarks) == ["data.root", "train.epochs"]


def test_missing_run_lists_the_runs_beside_it(tmp_path):
    open_workdir(tmp_path / "a", Config())
    with pytest.raises(WorkdirError, match=r"holds no run(.|\n)*/a"):
        load_config(tmp_path / "b")


def test_unknown_fields_of_another_version_are_an_error(tmp_path):
    open_workdir(tmp_path, Config())
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["momentum"] = 0.9
    path.write_text(json.dumps(content))
    with pytest.raises(WorkdirError, match="momentum"):
        load_config(tmp_path)


def test_a_run_from_before_the_camera_norm_could_be_chosen_has_batch_norm(tmp_path):
    start_run(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["model"]["depth"]["camera_norm"]
    path.write_text(json.dumps(content))
    assert load_config(tmp_path).model.depth.camera_norm == "batch"
    with pytest.raises(WorkdirError, match=r"camera_norm: was 'batch', now 'fixed'"):
        open_workdir(tmp_path, Config())


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="choose another --workdir"):
        open_workdir(tmp_path / "file" / "run", Config())
