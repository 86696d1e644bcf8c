"""Distillation on sparse targets against a dense reference written out voxel by voxel, values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distillation_reference import (
    GRID,
    kl,
    make_teacher,
    random_student,
    reference_column,
    reference_terms,
    reference_weights,
    softened,
    some_seen,
    some_valid,
)
from flax import nnx

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DistillConfig
from occjax.grid import VoxelGrid
from occjax.losses.distillation import BevAdapter, distillation_terms
from occjax.targets.codec import decode_rows, encode_rows, floored_log_probs, level_bytes
from occjax.targets.moving import dense_log_probs
from occjax.types import BevCodes, Predictions, TeacherTargets, VoxelCodes

NAMES = ("voxel_kl", "bev_kl", "channel_wise", "bev_feature")
ALL = DistillConfig(voxel_kl=1.0, bev_kl=1.0, channel_wise=1.0, bev_feature=1.0)


def batched(*teachers):
    return jax.tree.map(lambda *x: jnp.stack(x), *teachers)


def predictions(logits) -> Predictions:
    return Predictions(logits, None, None, None, None)


@functools.cache
def compiled(fields, grid, has_gradient):
    """Terms, or their weighted sum with its gradients, for one configuration.

    Compiled without optimisation: these programs run a few times, on a handful of voxels.
    """

    def terms(logits, adapted, teacher, seen):
        return distillation_terms(predictions(logits), teacher, adapted, DistillConfig(*fields), grid, seen)

    def weighted(logits, adapted, teacher, seen, mix):
        values = terms(logits, adapted, teacher, seen)
        return sum(mix[NAMES.index(name)] * value for name, value in values.items())

    function = jax.value_and_grad(weighted, argnums=(0, 1)) if has_gradient else terms
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def terms_of(logits, teacher, adapted, config, grid=GRID, seen=None):
    return compiled(dataclasses.astuple(config), grid, False)(logits, adapted, teacher, seen)


def gradients_of(logits, teacher, adapted, config, mix=(1.0, 1.0, 1.0, 1.0), seen=None):
    """Weighted sum of the terms, and its gradients with respect to logits and adapter output."""
    value, grads = compiled(dataclasses.astuple(config), GRID, True)(logits, adapted, teacher, seen, jnp.asarray(mix))
    return float(value), *grads


@pytest.mark.parametrize(
    ("temperature", "free_share", "masked", "camera"),
    [(1.0, 1.0, False, False), (2.0, 0.3, False, True), (2.0, 0.1, True, True), (4.0, 1.0, True, False)],
)
def test_sparse_terms_equal_dense_ones_in_value_and_gradient(temperature, free_share, masked, camera):
    config = dataclasses.replace(ALL, temperature=temperature, free_share=free_share)
    teacher = make_teacher(valid=some_valid() if masked else None)
    logits, adapted = random_student()
    seen = some_seen() if camera else None

    # None of the terms' gradients hides behind another's.
    mix = (1.0, 0.3, 0.1, 1.0)

    def dense(logits, adapted):
        terms = reference_terms(logits[0], teacher, adapted[0], config, True if seen is None else seen)
        return sum(weight * terms[name] for name, weight in zip(NAMES, mix, strict=True)), terms

    seen_batch = None if seen is None else jnp.asarray(seen)[None]
    found = terms_of(logits, batched(teacher), adapted, config, seen=seen_batch)
    _, *found_grads = gradients_of(logits, batched(teacher), adapted, config, mix, seen_batch)
    (_, wanted), wanted_grads = jax.value_and_grad(dense, argnums=(0, 1), has_aux=True)(logits, adapted)
    for name in NAMES:
        assert float(wanted[name]) > 1e-3
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-4, err_msg=name)
    for a, b in zip(found_grads, wanted_grads, strict=True):
        scale = float(jnp.abs(b).max()) + 1e-12
        np.testing.assert_allclose(a / scale, b / scale, atol=2e-4)
    if seen is not None:
        assert not np.asarray(found_grads[0])[0][~seen].any() and np.asarray(found_grads[0])[0][seen].any()
        assert not np.asarray(found_grads[1])[0][~seen.any(-1)].any()


def test_batch_is_the_mean_of_its_samples():
    teachers = [make_teacher(seed) for seed in (0, 1)]
    logits, adapted = random_student(batch=2)
    both = terms_of(logits, batched(*teachers), adapted, ALL)
    single = [terms_of(logits[i : i + 1], batched(teachers[i]), adapted[i : i + 1], ALL) for i in range(2)]
    for name, value in both.items():
        np.testing.assert_allclose(value, (single[0][name] + single[1][name]) / 2, rtol=1e-5)


def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient():
    teacher = make_teacher()
    logits = jnp.asarray(dense_log_probs(teacher, GRID.shape))[None] + 3.0  # an offset per voxel changes nothing
    config = dataclasses.replace(ALL, bev_feature=0.0)

    value, grad, _ = gradients_of(logits, batched(teacher), None, config)
    assert abs(value) < 1e-4
    assert float(jnp.abs(grad).max()) < 1e-5


def one_car(voxel):
    """A teacher who says with near certainty that one voxel is a car and all others are free."""
    rows = np.full((1, NUM_CLASSES), 1e-9, np.float32)
    rows[0, 4] = 1.0
    background = np.zeros(NUM_CLASSES, np.float32)
    background[FREE] = 1
    voxels = VoxelCodes(np.array([voxel], np.int32), *encode_rows(rows), floored_log_probs(background), None)
    return batched(TeacherTargets(voxels, None))


def test_two_voxels_by_hand():
    grid, teacher = VoxelGrid("lidar", (0.0, 0.0, 0.0), 1.0, (2, 1, 1)), one_car(0)
    logits = jnp.zeros((1, 2, 1, 1, NUM_CLASSES))
    config = DistillConfig(voxel_kl=1.0, temperature=1.0, free_share=0.25)
    value = terms_of(logits, teacher, None, config, grid)["voxel_kl"]
    # Each voxel's KL to the uniform student is log 18, whatever the weights.
    np.testing.assert_allclose(value, np.log(18), rtol=2e-3)
    only_free_wrong = logits.at[0, 0, 0, 0, 4].set(50.0)
    value = terms_of(only_free_wrong, teacher, None, config, grid)["voxel_kl"]
    np.testing.assert_allclose(value, 0.25 * np.log(18), rtol=1e-2)


def test_nothing_valid_or_nothing_occupied_gives_zero_with_finite_gradients():
    logits, adapted = random_student()
    nothing_valid = make_teacher(valid=np.zeros(GRID.shape, bool))
    nothing_occupied = make_teacher(active=0)

    value, *grads = gradients_of(logits, batched(nothing_valid), adapted, ALL)
    assert value == 0
    assert all(float(jnp.abs(g).max()) == 0 for g in grads)
    terms = terms_of(logits, batched(nothing_occupied), adapted, ALL)
    assert float(terms["bev_feature"]) == 0
    _, *grads = gradients_of(logits, batched(nothing_occupied), adapted, ALL)
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


def test_columns_of_a_cell_share_what_its_features_say():
    grid, teacher = VoxelGrid("lidar", (0.0, 0.0, 0.0), 1.0, (2, 4, 1)), one_car(5)
    logits = jnp.zeros((1, 2, 4, 1, NUM_CLASSES))
    cells = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 2, NUM_CLASSES)), jnp.float32)
    columns = jnp.stack([cells[:, 0, [0, 0, 1, 1]]] * 2, axis=1)
    config = DistillConfig(bev_feature=1.0)
    found, wanted = (terms_of(logits, teacher, x, config, grid)["bev_feature"] for x in (cells, columns))
    assert float(found) == pytest.approx(float(wanted), rel=1e-5) and float(found) > 0


def test_extreme_student_logits_stay_finite():
    teacher = make_teacher()
    logits = jnp.zeros((1, *GRID.shape, NUM_CLASSES)).at[..., FREE].set(200.0)

    config = dataclasses.replace(ALL, bev_feature=0.0)
    for x in (logits, -logits, logits.at[..., 3].set(200.0)):
        value, grad, _ = gradients_of(x, batched(teacher), None, config)
        assert np.isfinite(value) and bool(jnp.isfinite(grad).all())


def test_voxels_outside_validity_do_not_count():
    valid = some_valid()
    teacher = make_teacher(valid=valid)
    logits, adapted = random_student()
    disturbed = logits + 10 * jnp.asarray(~valid)[None, ..., None] * jnp.arange(NUM_CLASSES)
    a = terms_of(logits, batched(teacher), adapted, ALL)
    b = terms_of(disturbed, batched(teacher), adapted, ALL)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6, err_msg=name)


def test_defect_1_bev_targets_are_distributions_of_the_teacher_not_uniform_labels():
    logits, _ = random_student()
    config = DistillConfig(bev_kl=1.0)
    values = [float(terms_of(logits, batched(make_teacher(s)), None, config)["bev_kl"]) for s in (0, 1)]
    assert abs(values[0] - values[1]) > 1e-3 * values[0]
    # A uniform student is the optimum of a uniform-label loss; here it has a gradient.
    uniform = jnp.zeros_like(logits)
    _, grad, _ = gradients_of(uniform, batched(make_teacher()), None, config)
    assert float(jnp.abs(grad).max()) > 1e-3


def test_defect_2_sums_over_classes_and_softens_both_sides():
    teacher = make_teacher()
    dense = jnp.asarray(dense_log_probs(teacher, GRID.shape))[None]
    at_4 = DistillConfig(voxel_kl=1.0, temperature=4.0)
    # Student = teacher is the optimum at every temperature only if both are softened.
    _, grad, _ = gradients_of(dense, batched(teacher), None, at_4)
    assert float(jnp.abs(grad).max()) < 1e-5
    # With T² the gradient keeps its size as T grows.
    logits, _ = random_student()
    norms = []
    for temperature in (4.0, 8.0):
        config = DistillConfig(voxel_kl=1.0, temperature=temperature)
        _, grad, _ = gradients_of(logits, batched(teacher), None, config)
        norms.append(float(jnp.linalg.norm(grad)))
    assert 0.5 < norms[0] / norms[1] < 2


def test_defect_7_one_occupied_voxel_makes_a_student_column_occupied():
    grid = VoxelGrid("lidar", (0.0, 0.0, 0.0), 1.0, (1, 1, 4))
    logits = jnp.zeros((1, 1, 1, 4, NUM_CLASSES)).at[..., FREE].set(12.0)
    occupied = logits.at[0, 0, 0, 1, 4].set(24.0)  # a car under three free voxels: a max over z would say free
    rows = np.full((1, NUM_CLASSES), 1e-9, np.float32)
    rows[0, 4] = 1
    free, levels = encode_rows(rows)
    background = floored_log_probs(np.eye(NUM_CLASSES)[FREE])
    teacher = batched(TeacherTargets(VoxelCodes(np.array([1], np.int32), free, levels, background, None), None))
    config = DistillConfig(bev_kl=1.0, temperature=1.0)
    value = terms_of(occupied, teacher, None, config, grid)["bev_kl"]
    assert float(value) < 0.02


def test_a_shifted_teacher_fits_worse():
    teacher = make_teacher(sharpness=4.0)
    dense = dense_log_probs(teacher, GRID.shape)
    config = dataclasses.replace(ALL, bev_feature=0.0)
    for axis in range(3):
        shifted = jnp.asarray(np.roll(dense, 1, axis))[None]
        terms = terms_of(shifted, batched(teacher), None, config)
        assert float(terms["voxel_kl"]) > 0.5
        if axis < 2:
            assert float(terms["bev_kl"]) > 0.05


def test_a_map_of_its_own_takes_the_place_of_the_column_rule():
    r = np.random.default_rng(3)
    probs = r.dirichlet(np.full(NUM_CLASSES, 0.3), GRID.shape[:2]).astype(np.float32)
    free, levels = encode_rows(probs.reshape(-1, NUM_CLASSES))
    free, levels = free.reshape(GRID.shape[:2]), levels.reshape(*GRID.shape[:2], -1)
    cells = np.ones(GRID.shape[:2], bool)
    cells[0] = False
    teacher = TeacherTargets(None, BevCodes(free, levels, np.packbits(cells.reshape(-1))))
    logits, adapted = random_student()
    config = DistillConfig(bev_kl=1.0, bev_feature=1.0)
    terms = terms_of(logits, batched(teacher), adapted, config)
    target = decode_rows(free, levels, NUM_CLASSES)
    soft = softened(target, config.temperature)
    everywhere = np.ones(GRID.shape, bool)
    student = softened(reference_column(jax.nn.log_softmax(logits[0]), everywhere), config.temperature)
    weights = reference_weights(soft, cells, config.free_share)
    np.testing.assert_allclose(terms["bev_kl"], 4 * jnp.sum(weights * kl(soft, student)), rtol=1e-4)
    # Of a column that is seen in part, the map speaks of the whole; of one that nobody sees, it counts nothing.
    seen = np.zeros(GRID.shape, bool)
    seen[2:, :, 0] = True
    weights = reference_weights(soft, cells & seen.any(-1), config.free_share)
    value = terms_of(logits, batched(teacher), adapted, config, seen=jnp.asarray(seen)[None])["bev_kl"]
    np.testing.assert_allclose(value, 4 * jnp.sum(weights * kl(soft, student)), rtol=1e-4)
    with pytest.raises(ValueError, match="voxel_kl, channel_wise need voxels"):
        terms_of(logits, batched(teacher), adapted, ALL)


def test_weight_zero_leaves_a_term_out_and_missing_inputs_are_named():
    logits, adapted = random_student()
    teacher = batched(make_teacher())
    assert terms_of(logits, None, None, DistillConfig()) == {}
    terms = terms_of(logits, teacher, None, DistillConfig(channel_wise=1.0))
    assert set(terms) == {"channel_wise"}
    with pytest.raises(ValueError, match="data.teacher_dir"):
        terms_of(logits, None, None, DistillConfig(voxel_kl=1.0))
    with pytest.raises(ValueError, match="BevAdapter"):
        terms_of(logits, teacher, None, DistillConfig(bev_feature=1.0))
    with pytest.raises(ValueError, match="model's own grid"):
        terms_of(logits[:, :3], teacher, None, DistillConfig(voxel_kl=1.0))


def test_device_and_host_expand_the_same_codes_to_the_same_rows():
    r = np.random.default_rng(0)
    free = r.integers(0, 256, 500).astype(np.uint8)
    levels = r.integers(0, 256, (500, level_bytes(NUM_CLASSES))).astype(np.uint8)
    np.testing.assert_allclose(
        decode_rows(jnp.asarray(free), jnp.asarray(levels), NUM_CLASSES, jnp),
        decode_rows(free, levels, NUM_CLASSES),
        atol=2e-5,
    )


def test_adapter_maps_features_to_classes():
    adapter = BevAdapter(7, rngs=nnx.Rngs(0))
    features = jnp.ones((2, 3, 4, 7), jnp.bfloat16)
    out = adapter(features)
    assert out.shape == (2, 3, 4, NUM_CLASSES) and out.dtype == jnp.float32
