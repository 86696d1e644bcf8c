"""The compiled step: devices do not matter, accumulation averages, distillation reaches the gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from occjax.data.index import load_index
from occjax.data.pipeline import make_train_loader
from occjax.system.mesh import check_batch_size, make_mesh, put_batch, replicated
from occjax.train import step
from occjax.train.learner import abstract_state, initial_state, make_learner
from occjax.train.parts import training_parts
from occjax.train.state import update_ema


@pytest.fixture
def batches(config):
    loader = make_train_loader(config, load_index(config.data), training_parts(config))
    return [next(loader) for _ in range(2)]


def run(config, batches, devices):
    mesh = make_mesh(devices)
    learner = make_learner(config, 10)
    state = initial_state(learner, replicated(mesh))
    train_step = step.make_train_step(learner, mesh)
    history = []
    for batch in batches:
        state, metrics = train_step(state, put_batch(batch, mesh))
        history.append({k: float(v) for k, v in metrics.items()})
    return history, jax.device_get(state)


@pytest.mark.slow
def test_one_device_and_four_give_the_same_losses(config, batches):
    one, _ = run(config, batches, jax.devices()[:1])
    four, _ = run(config, batches, jax.devices()[:4])
    assert {"loss", "voxel_kl", "bev_kl", "channel_wise", "bev_feature", "lovasz", "depth"} <= set(one[0])
    for a, b in zip(one, four, strict=True):
        for name in a:
            assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-5), name
        assert a["gradient_ratio"] > 0.01


def test_accumulating_averages_the_micro_batches_and_passes_statistics_on(config, batches, monkeypatch):
    config.train.accumulate_steps = 2
    learner = make_learner(config, 10)
    state = abstract_state(learner)
    arguments = (
        state.params,
        state.batch_stats,
        jax.tree.map(jnp.asarray, batches[0]),
        jax.random.key(0),
        jnp.bool_(True),
    )
    one, many = (
        jax.eval_shape(functools.partial(function, learner), *arguments)
        for function in (step.gradients, step.accumulated_gradients)
    )
    assert many == one

    def gradients(_, params, batch_stats, batch, key, is_logged):
        mean = batch.sample_index.mean()
        return {"w": params["w"] * mean}, {"loss": mean}, {"s": batch_stats["s"] / 2 + mean}

    monkeypatch.setattr(step, "gradients", gradients)
    # Micro-batches take every other sample: 1 and 3, then 10 and 30.
    batch = batches[0]._replace(sample_index=np.int32([1, 10, 3, 30]))
    grads, terms, batch_stats = step.accumulated_gradients(
        learner, {"w": jnp.float32(2)}, {"s": jnp.float32(8)}, batch, jax.random.key(0), jnp.bool_(True)
    )
    assert (float(grads["w"]), float(terms["loss"]), float(batch_stats["s"])) == (22, 11, 23)


def test_a_gpu_gets_plain_reductions(config, batches):
    """The whole step is lowered for a GPU, on a machine that needs to have none."""
    learner = make_learner(config, 10)
    state, batch = abstract_state(learner), jax.eval_shape(lambda: jax.tree.map(jnp.asarray, batches[0]))
    compiled = jax.jit(functools.partial(step.step, learner))
    lowered = export.export(compiled, platforms=["cuda"])(state, batch).mlir_module()
    # The CPU's spelling multiplies by ones at the highest precision (see tests/system/test_cpu.py); nothing else does.
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
