"""The stages that see through real cameras, against numbers of the published modules with random weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from teacher_goldens import channels_last, unit, unit_weights

from occjax.teacher import weight_tables as tables
from occjax.teacher.deformable_aggregation import attention_logits, deformable_aggregation, project
from occjax.teacher.key_points import key_points
from occjax.teacher.lifter import choose_bins, depth_logits, inside, lift, padded, unproject
from occjax.teacher.variants import VARIANTS

close = partial(np.testing.assert_allclose, rtol=0, atol=5e-5)


@pytest.fixture(scope="module")
def path(shared_dir):
    return shared_dir / "goldens/teacher/teacher_units.npz"


@pytest.mark.parametrize(("name", "variant"), [("deform_prob", "gs6400"), ("deform_v1", "gs25600_solid")])
def test_deformable_aggregation(path, name, variant):
    golden, variant = unit(name, path), VARIANTS[variant]
    weights = unit_weights(golden, tables.deformable("param", variant, 16))
    x, embedding, anchors, matrices = (jnp.asarray(golden[k][0]) for k in ("x", "embed", "anchor", "projection_mat"))
    levels = tuple(channels_last(golden[f"F{i}"][0]) for i in range(4))
    points = key_points(weights["key_points"], anchors, x, variant)
    close(points, golden["key_points"][0], atol=1e-4)
    np.testing.assert_array_equal(project(points, matrices).is_visible, golden["visible"][0])
    close(attention_logits(weights, x + embedding, matrices)[:3], golden["logits"][0])
    run = jax.jit(partial(deformable_aggregation, cameras_per_point=2))
    reading = run(weights, x + embedding, points, levels, matrices)
    y = reading.features if variant.version == 2 else jnp.concatenate([reading.features, x], axis=-1)
    close(y, golden["y"][0])
    assert reading.most_cameras == golden["visible"].sum(-1).max()


@pytest.mark.parametrize("name", ["lifter", "lifter_pad"])
def test_lifter(path, name):
    golden = unit(name, path)
    weights = unit_weights(golden, tables.linear("param.projection.1", 32, 129))
    logits = depth_logits(weights, channels_last(golden["feature"][0]))
    close(logits[0, : golden["logits"].shape[1]], golden["logits"][0])
    u = jnp.asarray(golden["u"][0, ..., 0])
    bins, is_kept = jax.jit(choose_bins, static_argnames="mode")(logits, u, mode="drawn")
    np.testing.assert_array_equal(bins, golden["depth_index"][0, ..., 0])
    np.testing.assert_array_equal(is_kept, golden["kept"][0])
    inverse = jnp.asarray(np.linalg.inv(golden["projection_mat"][0].astype(np.float64)).astype(np.float32))
    candidates = jax.jit(lambda bins, is_kept: inside(unproject(bins, inverse), is_kept))(bins, is_kept)
    assert candidates.count == golden["n_candidates"]
    anchors = {k: jnp.asarray(golden[f"param.{v}"]) for k, v in (("lifted", "anchor"), ("stored", "random_anchors"))}
    jitter = jnp.zeros((len(anchors["lifted"]), 3))
    if "jitter" in golden:
        jitter = jitter.at[: len(golden["jitter"])].set(golden["jitter"])
    points, is_valid = jax.jit(padded)(candidates, jitter)
    assert is_valid.sum() == len(golden["scan"])
    close(points[: len(golden["scan"])], golden["scan"], atol=2e-5)
    lifted = jax.jit(lift, static_argnames="mode")(anchors, logits, inverse, u, jitter)
    assert lifted.candidates == golden["n_candidates"]
    # Logits of positions are steep near the grid's border.
    close(lifted.anchors, golden["anchor"][0], atol=2e-4)
