"""Device and host work at the same time, and nothing of a batch moves between devices."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_world import tiny_config

from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.label_sets import LABEL_SETS
from occjax.metrics.on_device import summarise
from occjax.predict.forward import in_advance, make_split_fn
from occjax.system.mesh import batch_sharding, make_mesh, put_batch
from occjax.system.stop_requests import StopRequested
from occjax.targets.reader import complete_teacher


def test_the_next_batch_is_predicted_while_this_one_is_scored():
    begun = {batch: threading.Event() for batch in range(4)}

    def predict(batch):
        begun[batch].set()
        return 10 * batch

    seen = []
    for batch, prediction in in_advance(predict, iter(range(4))):
        assert batch == 3 or begun[batch + 1].wait(timeout=20)
        # And no further: each holds images and predictions.
        assert batch > 1 or not begun[batch + 2].is_set()
        seen.append((batch, prediction))
    assert seen == [(0, 0), (1, 10), (2, 20), (3, 30)]


def test_a_request_to_stop_does_not_wait_for_the_compiler():
    compiled = threading.Event()
    asked = iter([0, signal.SIGTERM])
    with pytest.raises(StopRequested):
        list(in_advance(lambda _: compiled.wait(60), iter(range(4)), lambda: next(asked)))
    compiled.set()


def test_what_goes_wrong_on_the_device_arrives():
    with pytest.raises(ValueError, match="out of memory"):
        list(in_advance(lambda _: (_ for _ in ()).throw(ValueError("out of memory")), iter([1])))


def test_the_comparison_with_the_teacher_gathers_nothing(world):
    config = tiny_config(world)
    index, mesh = load_index(config.data), make_mesh()
    teacher = complete_teacher(config, "val", index.split("val").tokens)
    loader = make_eval_loader(config, index, "val", Parts(labels=True, teacher=teacher), batch_size=4)
    batch = next(loader)
    loader.close()
    logits = np.random.default_rng(0).normal(size=(4, *config.grid.shape, 18)).astype(np.float32)

    def summary(pair):
        return summarise(*pair, label_set=LABEL_SETS["surroundocc"], use_camera_mask=True)

    inputs = put_batch((logits, batch), mesh)
    compiled = make_split_fn(summary, mesh).lower(inputs).compile()
    text = compiled.as_text()
    assert not [word for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if word in text]
    found = compiled(inputs)
    assert found.teacher.kl_sum.sharding.is_equivalent_to(batch_sharding(mesh), 2)
    # As on one device.
    wanted = jax.jit(summary)(jax.tree.map(jnp.asarray, (logits, batch)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
