"""Checkpoints come back whole for training, and in part for prediction; so do those of the version before."""

import gc
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from small import small_config
from tiny_state import tiny_state

from occjax.config import Config, ModelConfig
from occjax.predict.checkpoint_folders import CheckpointError
from occjax.predict.stored_weights import read_student, restore
from occjax.system.mesh import make_mesh, replicated
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import abstract_state, initial_state, make_learner


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


@pytest.fixture(scope="module", params=["now", pytest.param("before", marks=pytest.mark.slow)])
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


@pytest.fixture
def named(workdir, monkeypatch):
    """The workdir as people name it, from the folder that it lies in."""
    monkeypatch.chdir(workdir.parent)
    return Path(workdir.name)


def test_training_gets_all_of_it(named, config, state):
    checkpoints = Checkpoints(named)
    found, position = checkpoints.restore(abstract_state(make_learner(config, 1)), make_mesh())
    checkpoints.close()
    assert_same(found, state)
    assert position == {"next_batch": 5}
    assert len(jax.tree.leaves(found)[0].sharding.device_set) == len(jax.devices())


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_prediction_gets_the_configured_weights(named, config, state, which):
    config.eval.weights = which
    weights = restore(config, named, make_mesh())
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


def misfit_of(restoring) -> str:
    """The message about a checkpoint of another model; nothing that was begun and not awaited is left behind."""
    with pytest.raises(CheckpointError, match="does not fit the configured model") as error:
        restoring()
    said = str(error.value)
    del error
    gc.collect()  # what complains when it is collected does so here, and fails the test
    return said


def test_another_model_is_named(workdir, config):
    # Six depth bins are stored; a BEV encoder of three stages.
    other = Config(model=model(bins=7), grid=config.grid)
    said = misfit_of(lambda: restore(other, workdir, make_mesh()))
    assert "params/depth_net/" in said and "(6,) stored, (7,) wanted" in said and "missing" not in said
    checkpoints = Checkpoints(workdir)
    learner = make_learner(other, 1)
    said = misfit_of(lambda: checkpoints.restore(abstract_state(learner), make_mesh()))
    assert "state/params/student/depth_net/" in said and "(6,) stored, (7,) wanted" in said
    checkpoints.close()
    for which in ("ema", "raw"):
        for stages, kind in (((6, 8), "not in the model: "), ((6, 8, 10, 12), "missing: ")):
            other = Config(model=model(), grid=config.grid)
            other.model.bev_encoder.stage_channels, other.eval.weights = stages, which
            said = misfit_of(lambda other=other: restore(other, workdir, make_mesh()))
            assert kind in said and "bev_encoder/stages/" in said and "opt_state" not in said


def test_of_many_misfits_ten_of_a_kind_are_named_and_the_rest_counted(workdir, config):
    other = Config(model=model(), grid=config.grid)
    other.model.fpn_channels, other.model.backbone.width = 16, 8
    lines = misfit_of(lambda: restore(other, workdir, make_mesh())).splitlines()
    named = [line for line in lines if line.startswith("  shape: ")]
    assert len(named) == 11 and named[-1].endswith(" more")
    assert lines[-1].startswith("use the configuration")


@pytest.fixture
def tiny(tmp_path):
    """Checkpoints of tiny states."""
    checkpoints = Checkpoints(tmp_path)
    yield checkpoints
    checkpoints.close()


def best_weight(workdir) -> float:
    """The number in the only checkpoint of best/."""
    (folder,) = (workdir / "best").glob("[0-9]*")
    wanted = {("params",): {"w": jnp.float32(0)}, ("batch_stats",): {"mean": jnp.float32(0)}}
    params, _, step, _ = read_student(workdir, *wanted.values(), make_mesh(), which="ema", best=True)
    assert step == int(folder.name)
    return float(params["w"])


def test_the_best_stays_and_a_better_one_takes_its_place(tiny, tmp_path):
    # Step, weight, score, and whether it is the best then.
    for step, weight, miou, is_best in (
        (2, 1, 10.0, True),
        (4, 2, 9.0, False),
        (6, 3, 10.0, False),
        (8, 4, 11.0, True),
    ):
        assert tiny.save_best(step, tiny_state(weight), {}, miou) is is_best
    assert best_weight(tmp_path) == 4


def test_a_resumed_run_replaces_the_best_of_its_own_step(tiny, tmp_path):
    assert tiny.save_best(4, tiny_state(1), {}, 10.0)
    resumed = Checkpoints(tmp_path)
    assert resumed.save_best(4, tiny_state(2), {}, 10.0) and best_weight(tmp_path) == 1  # it is there
    assert resumed.save_best(4, tiny_state(3), {}, 12.0)
    # Earlier than the best there is: the run went back to a checkpoint before it.
    assert not resumed.save_best(2, tiny_state(4), {}, 11.0) and best_weight(tmp_path) == 3
    assert resumed.save_best(2, tiny_state(5), {}, 13.0)
    resumed.close()
    assert best_weight(tmp_path) == 5


def test_nan_is_never_the_best(tiny, tmp_path):
    assert not tiny.save_best(2, tiny_state(1), {}, math.nan)
    assert not list((tmp_path / "best").glob("[0-9]*"))
    assert tiny.save_best(4, tiny_state(2), {}, 10.0)
    assert not tiny.save_best(6, tiny_state(3), {}, math.nan) and best_weight(tmp_path) == 2


def test_a_nan_that_lies_there_as_the_best_gives_way(tmp_path):
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["miou"], enable_async_checkpointing=False)
    with ocp.CheckpointManager(tmp_path / "best", options=options, item_names=("ema",)) as manager:
        items = ocp.args.Composite(ema=ocp.args.StandardSave(tiny_state(1).ema))
        manager.save(2, args=items, metrics={"miou": math.nan}, force=True)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.save_best(4, tiny_state(2), {}, 1.0)
    checkpoints.close()
    assert best_weight(tmp_path) == 2


def test_what_is_saved_is_the_state_of_its_step_though_the_next_one_writes_over_it(tmp_path):
    place = replicated(make_mesh())
    large = tiny_state()._replace(opt_state={"mu": jnp.zeros(3_000_000)})

    def add_one(state):
        return jax.tree.map(lambda x: x + 1, state)

    step = jax.jit(add_one, donate_argnums=0, out_shardings=place)
    state = jax.jit(add_one, out_shardings=place)(large)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {"next_batch": 1})
    for _ in range(3):
        state = step(state)
    jax.block_until_ready(state)
    checkpoints.wait()
    found, _ = checkpoints.restore(jax.eval_shape(lambda: large), make_mesh())
    checkpoints.close()
    assert_same(found, add_one(large))


def test_a_workdir_without_checkpoints_is_named(config, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}"):
        checkpoints.restore(abstract_state(make_learner(config, 1)), make_mesh())
    checkpoints.close()


def test_prediction_imports_nothing_of_training():
    code = """
import importlib, pkgutil, sys, occjax.predict
for module in pkgutil.walk_packages(occjax.predict.__path__, "occjax.predict."):
    importlib.import_module(module.name)
print([name for name in sys.modules if name.startswith("occjax.train")])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
