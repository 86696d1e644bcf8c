"""The compiled step: devices do not matter, accumulation averages, distillation reaches the gradients."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from occjax.configs import supervised
from occjax.data.index import load_index
from occjax.data.pipeline import make_train_loader
from occjax.train.learner import abstract_state, initial_state, make_learner
from occjax.train.mesh import check_batch_size, make_mesh, put_batch, replicated
from occjax.train.parts import training_parts
from occjax.train.state import update_ema
from occjax.train.step import make_train_step, step


@pytest.fixture
def batches(config):
    loader = make_train_loader(config, load_index(config.data), training_parts(config))
    return [next(loader) for _ in range(2)]


def run(config, batches, devices):
    mesh = make_mesh(devices)
    learner = make_learner(config, 10)
    state = initial_state(learner, replicated(mesh))
    train_step = make_train_step(learner, mesh)
    history = []
    for batch in batches:
        state, metrics = train_step(state, put_batch(batch, mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, jax.device_get(state)


def test_one_device_and_four_give_the_same_losses(config, batches):
    one, _ = run(config, batches, jax.devices()[:1])
    four, _ = run(config, batches, jax.devices()[:4])
    assert {"loss", "voxel_kl", "bev_kl", "channel_wise", "bev_feature", "lovasz", "depth"} <= set(one[0])
    for a, b in zip(one, four, strict=True):
        for name in a:
            assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-5), name
        assert a["gradient_ratio"] > 0.01


def test_accumulating_equal_halves_changes_nothing_but_the_statistics(config, batches):
    config.augment.photometric = False
    # What accumulates are gradients, of whatever loss: the fewer terms, the less there is to compile.
    config.loss.scene_class_affinity = config.loss.lovasz = 0.0
    config = supervised.without_teacher(config)
    batches = [batch._replace(teacher=None) for batch in batches]
    doubled = [jax.tree.map(lambda x: np.concatenate([x[:2], x[:2]]), batches[0])]
    # Micro-batches take every other sample: order a b a b so that each holds the same pair.
    doubled = [jax.tree.map(lambda x: x[[0, 0, 1, 1]], b) for b in doubled]
    halves = copy.deepcopy(config)
    halves.train.accumulate_steps = 2
    whole, _ = run(config, doubled, jax.devices()[:1])
    parts, _ = run(halves, doubled, jax.devices()[:1])
    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-5)
    assert parts[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-4)


def test_a_gpu_gets_plain_reductions(config, batches):
    """The whole step is lowered for a GPU, on a machine that needs to have none."""
    learner = make_learner(config, 10)
    state, batch = abstract_state(learner), jax.eval_shape(lambda: jax.tree.map(jnp.asarray, batches[0]))
    lowered = export.export(jax.jit(functools.partial(step, learner)), platforms=["cuda"])(state, batch).mlir_module()
    # The CPU's spelling multiplies by ones at the highest precision (see tests/test_cpu.py); nothing else asks for it.
    assert "HIGHEST" not in lowered and lowered.count("stablehlo.convolution") > 50


def test_the_average_covers_statistics_and_forgets_the_start():
    ema = {"params": {"w": 0.0}, "batch_stats": {"mean": 0.0}}
    new = update_ema(ema, {"w": 1.0}, {"mean": 2.0}, jnp.asarray(0), 0.999)
    assert float(new["params"]["w"]) == pytest.approx(0.9)
    assert float(new["batch_stats"]["mean"]) == pytest.approx(1.8)
    late = update_ema(ema, {"w": 1.0}, {"mean": 2.0}, jnp.asarray(10**6), 0.999)
    assert float(late["params"]["w"]) == pytest.approx(0.001, rel=1e-3)


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    with pytest.raises(ValueError, match=r"batch_size=8"):
        check_batch_size(6, 2, make_mesh())
