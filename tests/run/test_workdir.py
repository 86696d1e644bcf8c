"""A workdir belongs to one run."""

import json

import pytest

from occjax.config import Config
from occjax.models.resnet import BackboneWeightsError
from occjax.run.initialisation import said_of
from occjax.run.workdir import open_workdir
from occjax.run_config import WorkdirError, load_config, stored_initialisation


def test_configuration_round_trips(tmp_path):
    config = Config()
    config.grid.shape = (10, 20, 3)
    config.model.depth.bins = 7
    open_workdir(tmp_path, config)
    assert load_config(tmp_path) == config
    written = json.loads((tmp_path / "config.json").read_text())
    assert {"jax", "flax", "occjax"} <= set(written["versions"])


def start_run(workdir, config=None):
    open_workdir(workdir, config or Config())
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


def test_what_the_weights_start_from_is_found_out_once(tmp_path, monkeypatch):
    weights = tmp_path / "r.npz"
    weights.write_bytes(b"weights")
    config = Config()
    config.model.backbone.weights = str(weights)
    start_run(tmp_path / "run", config)
    # printf weights | sha256sum
    checksum = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    stored = {"kind": "backbone", "file": "r.npz", "sha256": checksum}
    assert stored_initialisation(tmp_path / "run") == stored
    assert said_of(stored) == f"backbone r.npz, sha256 {checksum[:12]}"
    # Resumed without the file, or with another choice: neither changes what the run started from.
    weights.unlink()
    open_workdir(tmp_path / "run", config)
    open_workdir(tmp_path / "run", Config())
    assert stored_initialisation(tmp_path / "run") == stored
    with pytest.raises(BackboneWeightsError, match=r"r\.npz' is no file"):
        open_workdir(tmp_path / "new", config)
    assert stored_initialisation(tmp_path / "new") is None


def test_random_weights_are_named_and_what_is_not_known_is_said(tmp_path):
    open_workdir(tmp_path, Config())
    assert said_of(stored_initialisation(tmp_path)) == "random weights"
    assert said_of(None) == "weights that were not recorded"


def test_runs_of_earlier_versions_are_read(tmp_path):
    config = Config()
    config.data.batch_size, config.train.ema_samples = 2, 100
    start_run(tmp_path, config)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    del content["initialisation"], content["config"]["train"]["ema_samples"]
    content["config"]["train"]["ema_decay"] = 0.98
    content["config"]["model"]["backbone"]["weights"] = ""
    path.write_text(json.dumps(content))
    assert load_config(tmp_path) == config
    assert open_workdir(tmp_path, config) == []
    assert said_of(stored_initialisation(tmp_path)) == "weights that were not recorded"


def test_a_configuration_with_values_of_another_type_is_named(tmp_path):
    open_workdir(tmp_path, Config())
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"workers": 4', '"workers": "four"'))
    with pytest.raises(WorkdirError, match="config.data.workers must be a whole number, not 'four'"):
        load_config(tmp_path)


def test_a_damaged_configuration_is_named(tmp_path):
    open_workdir(tmp_path, Config())
    (tmp_path / "checkpoints/7").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"config": ')
    with pytest.raises(WorkdirError, match=r"config.json is damaged .* delete it, and name .* by --config"):
        open_workdir(tmp_path, Config())


def test_an_empty_configuration_is_named_and_its_remedy_works(tmp_path):
    start_run(tmp_path)
    (tmp_path / "config.json").write_text("")
    with pytest.raises(WorkdirError, match=r"config.json is empty, as a crash .*: delete it") as error:
        open_workdir(tmp_path, Config())
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").unlink()
    open_workdir(tmp_path, Config())
    assert load_config(tmp_path) == Config()
