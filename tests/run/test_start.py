"""A training run is refused before anything is written, wherever it contradicts what lies in its folder."""

import logging
from pathlib import Path

import jax
import pytest
from tiny_state import tiny_state
from tiny_world import tiny_config

from occjax.data.index import load_index
from occjax.errors import UserError
from occjax.run.start import begun, data_identity
from occjax.run.workdir import open_workdir
from occjax.run_config import WorkdirError, stored_fact
from occjax.system.mesh import check_batch_size, make_mesh
from occjax.train.checkpoint import Checkpoints


@pytest.fixture
def config(world):
    return tiny_config(world)


@pytest.fixture
def workdir(config, tmp_path) -> Path:
    """A run at step 6 of 6."""
    open_workdir(tmp_path / "run", config, data=data_identity(config, load_index(config.data)))
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(6, tiny_state(), {"next_batch": 6})
    checkpoints.close()
    return tmp_path / "run"


def start(config, workdir, *, allow_other_data=False):
    with begun(config, workdir, make_mesh(), allow_other_data=allow_other_data) as index:
        return index


def test_a_run_that_is_beyond_the_last_step_is_refused_and_the_remedies_work(config, workdir):
    start(config, workdir)  # finished, which is no contradiction
    before = (workdir / "config.json").read_bytes()
    config.train.steps = 4
    with pytest.raises(WorkdirError, match=r"at step 6, beyond the 4 of .*--config.train.steps=6 or more"):
        start(config, workdir)
    assert (workdir / "config.json").read_bytes() == before
    start(config, workdir.parent / "another")
    config.train.steps = 6
    start(config, workdir)


def test_other_samples_are_refused_unless_they_are_meant(config, workdir, world, tmp_path, caplog):
    index = load_index(config.data)
    scenes = index.splits["train"], index.splits["val"]
    # The same counts: one scene of the first split changes places with that of the other one.
    swapped = tmp_path / "splits.json"
    swapped.write_text(f'{{"train": ["{scenes[0][0]}", "{scenes[1][0]}"], "val": ["{scenes[0][1]}"]}}')
    config.data.splits_file = str(swapped)
    with pytest.raises(WorkdirError, match=r"training, split train: 6 samples then, 6 others.*--allow-other-data"):
        start(config, workdir)
    with caplog.at_level(logging.WARNING, "occjax"):
        start(config, workdir, allow_other_data=True)
    assert "goes on with other data: training" in caplog.text
    start(config, workdir)  # they are its data now
    assert stored_fact(workdir, "data") == data_identity(config, load_index(config.data))
    config.data.splits_file = ""
    with pytest.raises(WorkdirError, match="other data"):
        start(config, workdir)


def test_a_new_run_takes_the_data_that_it_finds(config, tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with begun(config, tmp_path / "run", make_mesh(), allow_other_data=False):
        assert stored_fact(tmp_path / "run", "data")["training"]["samples"] == 6


def test_what_fails_at_the_start_leaves_nothing(config, tmp_path):
    config.data.batch_size = 3  # four devices
    with pytest.raises(UserError, match=r"batch_size=4"):
        start(config, tmp_path / "runs/new")
    config.data.batch_size, config.data.val_split = 4, "test"
    with pytest.raises(UserError, match="split 'test' has no scene"):
        start(config, tmp_path / "runs/new")
    assert list(tmp_path.iterdir()) == []


def test_the_remedy_for_another_number_of_devices_is_none_that_a_resumed_run_refuses():
    three = make_mesh(jax.devices()[:3])
    with pytest.raises(UserError, match=r"multiple of .* 3 .* not 8; use --config.data.batch_size=6"):
        check_batch_size(8, 1, three)
    check_batch_size(6, 1, three)
    with pytest.raises(UserError, match=r"XLA_FLAGS=\S*_device_count=2 and --config.train.accumulate_steps=1") as error:
        check_batch_size(2, 1, three, is_resumed=True)
    assert "--config.data.batch_size" not in str(error.value)
    check_batch_size(2, 1, make_mesh(jax.devices()[:2]), is_resumed=True)
    with pytest.raises(UserError, match="this run began with that batch: use --config.train.accumulate_steps=1"):
        check_batch_size(6, 4, three, is_resumed=True)
    check_batch_size(6, 1, three, is_resumed=True)
