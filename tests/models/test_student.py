"""The whole student: shapes, rigs, frames, freezing, and life as nested dicts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import GRID, make_rig, small_config

from occjax.classes import FREE
from occjax.grid import VoxelGrid
from occjax.models.student import Student, apply_student, compute_dtype, split_student, trainable_mask


def images_for(rig, size=(32, 48), seed=0):
    shape = (*rig.is_present.shape, *size, 3)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def build(config, grid=GRID):
    return split_student(Student(config, grid, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def student():
    """Graph, parameters, statistics, and a compiled evaluation pass."""
    graphdef, params, stats = build(small_config())
    run = jax.jit(lambda p, s, i, r: apply_student(graphdef, p, s, i, r, train=False)[0])
    return graphdef, params, stats, run


def test_shapes_dtypes_and_a_sane_start(student):
    _, params, stats, run = student
    rig = make_rig(batch=2)
    out = run(params, stats, images_for(rig), rig)
    assert out.voxel_logits.shape == (2, 16, 16, 4, 18) and out.voxel_logits.dtype == jnp.float32
    assert out.depth_logits.shape == (2, 3, 2, 3, 6) and out.lifted_features.shape == (2, 16, 16, 6)
    assert out.bev_features.shape == (2, 16, 16, 8) and out.bev_coverage.shape == (2,)
    probs = jax.nn.softmax(out.voxel_logits)
    assert 0.5 < float(probs[..., FREE].mean()) < 0.95
    assert float(jax.nn.softmax(out.depth_logits).max()) < 0.5


def test_camera_order_does_not_matter(student):
    _, params, stats, run = student
    rig = make_rig()
    images, order = images_for(rig), np.array([2, 0, 1])
    shuffled = rig._replace(
        **{name: getattr(rig, name)[:, order] for name in rig._fields if name != "augmented_from_grid"}
    )
    first, second = run(params, stats, images, rig), run(params, stats, images[:, order], shuffled)
    np.testing.assert_allclose(first.voxel_logits, second.voxel_logits, atol=1e-5)


def test_a_missing_camera_is_as_good_as_none(student):
    graphdef, params, stats, run = student
    rig, pair = make_rig(), make_rig((0.0, 240.0))
    rig.is_present[0, 1] = False
    images = images_for(rig).at[0, 1].set(1e3)
    kept = images[:, np.array([0, 2])]
    np.testing.assert_allclose(
        run(params, stats, images, rig).voxel_logits, run(params, stats, kept, pair).voxel_logits, atol=1e-5
    )
    # In training it counts in no statistic either.
    train = jax.jit(lambda i, r: apply_student(graphdef, params, stats, i, r, train=True))
    (out, moved), (expected, expected_moved) = train(images, rig), train(kept, pair)
    np.testing.assert_allclose(out.voxel_logits, expected.voxel_logits, atol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), moved, expected_moved)


def test_samples_of_a_batch_do_not_mix(student):
    _, params, stats, run = student
    rig = make_rig(batch=2)
    images = images_for(rig)
    both = run(params, stats, images, rig).voxel_logits
    alone = run(params, stats, images[1:], make_rig()).voxel_logits
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "cameras", "grid"),
    [
        ((48, 80), 1, GRID),
        ((16, 48), 2, VoxelGrid("ego", (-4.0, -6.0, -1.0), 0.8, (10, 15, 3))),
    ],
)
def test_any_size_any_cameras_any_grid(size, cameras, grid):
    graphdef, params, stats = build(small_config(), grid)
    rig = make_rig(np.arange(cameras) * 50.0, size=size)
    out, _ = jax.jit(lambda i: apply_student(graphdef, params, stats, i, rig, train=True))(images_for(rig, size))
    assert out.voxel_logits.shape == (1, *grid.shape, 18)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))


def test_image_size_not_divisible_by_16_is_refused(student):
    graphdef, params, stats, _ = student
    with pytest.raises(ValueError, match="divisible by 16.*40"):
        rig = make_rig()
        apply_student(graphdef, params, stats, images_for(rig, (40, 48)), rig, train=False)


def train_pass(config, rig, **kwargs):
    graphdef, params, stats = build(config)

    def loss(params):
        out, moved = apply_student(graphdef, params, stats, images_for(rig), rig, train=True, **kwargs)
        value = out.voxel_logits[..., 3].mean() + out.depth_logits[..., 0].mean()
        return value, ((out.voxel_logits, out.depth_logits), moved)

    (value, (logits, moved)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, logits, params, stats, moved, grads


@pytest.fixture(scope="module")
def plain_pass():
    return train_pass(small_config(), make_rig())


def test_every_parameter_that_matters_gets_a_gradient(plain_pass):
    *_, grads = plain_pass
    without = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(leaf).max() > 0
    }
    # Of the pyramid, the student reads the output of stride 16 alone.
    assert without == {f"['fpn']['outputs'][{i}]['{name}']" for i in (0, 1, 3) for name in ("kernel", "bias")} | {
        f"['fpn']['laterals'][{i}]['{name}']" for i in (0, 1) for name in ("kernel", "bias")
    }


@pytest.mark.slow
def test_remat_changes_memory_only(plain_pass):
    config = dataclasses.replace(small_config(), remat_backbone=True)
    value, *_, moved, grads = train_pass(config, make_rig())
    np.testing.assert_allclose(value, plain_pass[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), (moved, grads), plain_pass[4:])


def test_frozen_stages_and_statistics():
    config = small_config()
    config.backbone.frozen_stages, config.backbone.frozen_batch_norm = 2, True
    _, _, params, stats, moved, grads = train_pass(config, make_rig())
    mask = trainable_mask(config, params)
    frozen = [mask["backbone"]["stem"], mask["backbone"]["stages"][0]]
    assert not any(jax.tree.leaves(frozen))
    assert sum(not leaf for leaf in jax.tree.leaves(mask)) == len(jax.tree.leaves(frozen))
    for part in (grads["backbone"]["stem"], grads["backbone"]["stages"][0]):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(part))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads["backbone"]["stages"][1]))
    jax.tree.map(np.testing.assert_array_equal, moved["backbone"], stats["backbone"])
    assert np.any(moved["depth_net"]["reduce"]["norm"]["mean"] != stats["depth_net"]["reduce"]["norm"]["mean"])


@pytest.mark.slow
def test_bfloat16_keeps_float32_outside_the_convolutions(plain_pass):
    config = dataclasses.replace(small_config(), compute_dtype="bfloat16")
    value, logits, params, _, moved, grads = train_pass(config, make_rig())
    assert {leaf.dtype for leaf in jax.tree.leaves((params, moved, grads))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(value, plain_pass[0], atol=0.05)
    for values in logits:
        assert values.dtype == jnp.float32
        # Sums that were rounded to bfloat16 before the conversion would all lie on its grid.
        assert np.mean(values == values.astype(jnp.bfloat16)) < 0.1


@pytest.mark.parametrize(
    ("wanted", "platform", "dtype"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "gpu", "bfloat16"),
        ("auto", "tpu", "bfloat16"),
        ("float32", "gpu", "float32"),
        ("bfloat16", "cpu", "bfloat16"),
    ],
)
def test_type_of_computation_by_platform(wanted, platform, dtype):
    assert compute_dtype(dataclasses.replace(small_config(), compute_dtype=wanted), platform) == jnp.dtype(dtype)


def test_dropout_needs_a_key_and_follows_it():
    config, rig = small_config(dropout=0.5), make_rig()
    with pytest.raises(ValueError, match="dropout_keys"):
        train_pass(config, rig)
    graphdef, params, stats = build(config)
    run = jax.jit(
        lambda key: (
            apply_student(graphdef, params, stats, images_for(rig), rig, train=True, dropout_keys=key[None])[
                0
            ].depth_logits
        )
    )
    one, two, three = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != three)


def test_wrong_settings_are_refused():
    config = small_config()
    config.backbone.frozen_stages = 6
    with pytest.raises(ValueError, match="0 to 5; found 6"):
        nnx.eval_shape(lambda: Student(config, GRID, rngs=nnx.Rngs(0)))


def test_cells_of_several_columns_still_fill_the_grid():
    config = small_config()
    config.view_transform.cell_voxels = 2
    graphdef, params, stats = build(config)
    rig = make_rig()
    shapes = jax.eval_shape(lambda: apply_student(graphdef, params, stats, images_for(rig), rig, train=False)[0])
    assert shapes.voxel_logits.shape == (1, 16, 16, 4, 18)
    assert shapes.lifted_features.shape == (1, 8, 8, 6) and shapes.bev_features.shape == (1, 8, 8, 8)
