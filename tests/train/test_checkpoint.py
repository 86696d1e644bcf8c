"""Checkpoints come back whole for training, and in part for prediction; so do those of the version before."""

import gc
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small import small_config

from occjax.config import Config, ModelConfig
from occjax.predict.forward import restore
from occjax.train.checkpoint import CheckpointError, Checkpoints
from occjax.train.learner import abstract_state, initial_state, make_learner
from occjax.train.mesh import make_mesh, replicated

# A restore that fails leaves reads which orbax began and never awaited, and they complain when they are collected.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <coroutine object _read:pytest.PytestUnraisableExceptionWarning"
)


def model(**depth) -> ModelConfig:
    """A student of few arrays: each is a file, more or less, and is read in every test."""
    config = small_config(**depth)
    config.backbone.depth = 10
    return config


@pytest.fixture(scope="module")
def config() -> Config:
    config = Config(model=model())
    config.grid.shape, config.grid.lower_m = (16, 16, 4), (-8.0, -8.0, -2.0)
    return config


@pytest.fixture(scope="module")
def state(config):
    """A state whose averages are not its weights."""
    state = initial_state(make_learner(config, 1), replicated(make_mesh()))
    return state._replace(step=jnp.int32(7), ema=jax.tree.map(lambda x: x + 1, state.ema))


@pytest.fixture(scope="module", params=["now", "before"])
def workdir(request, config, state, tmp_path_factory):
    """A workdir with the checkpoint of step 7 as it is written now, or by the version before: averages in `state`."""
    workdir = tmp_path_factory.mktemp(request.param)
    if request.param == "now":
        checkpoints = Checkpoints(workdir)
        checkpoints.save(7, state, {"next_batch": 5})
        checkpoints.close()
        return workdir
    options = ocp.CheckpointManagerOptions(create=True, enable_async_checkpointing=False)
    with ocp.CheckpointManager(workdir / "checkpoints", options=options, item_names=("state", "data")) as manager:
        items = {"state": ocp.args.StandardSave(state), "data": ocp.args.JsonSave({"next_batch": 5})}
        manager.save(7, args=ocp.args.Composite(**items), force=True)
    return workdir


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_gets_all_of_it(workdir, config, state):
    checkpoints = Checkpoints(workdir)
    found, position = checkpoints.restore(abstract_state(make_learner(config, 1)), make_mesh())
    checkpoints.close()
    assert_same(found, state)
    assert position == {"next_batch": 5}
    assert len(jax.tree.leaves(found)[0].sharding.device_set) == len(jax.devices())


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_prediction_gets_the_configured_weights(workdir, config, state, which):
    config.eval.weights = which
    weights = restore(config, workdir, make_mesh())
    assert_same((weights.params, weights.batch_stats), state.student(which))
    assert weights.step == 7


def test_prediction_reads_nothing_but_the_averages(config, state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state, {})
    checkpoints.close()
    for file in sorted((tmp_path / "checkpoints/7/state").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    config.eval.weights = "ema"
    assert_same(restore(config, tmp_path, make_mesh()).params, state.ema["params"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_model_is_named(workdir, config):
    other = Config(model=model(bins=7), grid=config.grid)
    with pytest.raises(CheckpointError, match="does not fit the configured model"):
        restore(other, workdir, make_mesh())
    checkpoints = Checkpoints(workdir)
    with pytest.raises(CheckpointError, match="does not fit the configured model"):
        checkpoints.restore(abstract_state(make_learner(other, 1)), make_mesh())
    for which in ("ema", "raw"):
        for stages in ((6, 8), (6, 8, 10, 12)):  # less and more than what is stored
            other = Config(model=model(), grid=config.grid)
            other.model.bev_encoder.stage_channels, other.eval.weights = stages, which
            with pytest.raises(CheckpointError, match="does not fit the configured model"):
                restore(other, workdir, make_mesh())
    checkpoints.close()
    gc.collect()  # here, not in a test of another module: see pytestmark


def test_a_workdir_without_checkpoints_is_named(config, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}"):
        checkpoints.restore(abstract_state(make_learner(config, 1)), make_mesh())
    checkpoints.close()


def test_prediction_imports_no_optimizer():
    code = "import sys, occjax.predict.forward; print([m for m in sys.modules if m == 'occjax.train.optimizer'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
