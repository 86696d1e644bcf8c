import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import NUM_CLASSES
from occjax.config import DepthConfig, DistillConfig, LossConfig
from occjax.label_sets import LABEL_SETS
from occjax.losses.total import total_loss
from occjax.types import Batch, CameraRig, Predictions, VoxelLabels

DEPTH = DepthConfig(min_m=0.5, max_m=8.5, bins=8)


def make_case(seed=0, batch_size=2):
    rng = np.random.default_rng(seed)
    grid = (batch_size, 6, 6, 4)
    semantics = rng.integers(0, NUM_CLASSES, grid).astype(np.uint8)
    rig = CameraRig(None, None, None, None, jnp.ones((batch_size, 2), bool))
    batch = Batch(
        images=None,
        rig=rig,
        depth_m=jnp.asarray(rng.uniform(0, 9, (batch_size, 2, 3, 3)), jnp.float32),
        labels=VoxelLabels(jnp.asarray(semantics), jnp.asarray(rng.random(grid) < 0.7)),
        teacher=None,
        sample_index=jnp.arange(batch_size),
        is_valid=jnp.ones(batch_size, bool),
    )
    predictions = Predictions(
        voxel_logits=jnp.asarray(rng.normal(size=(*grid, NUM_CLASSES)), jnp.float32),
        depth_logits=jnp.asarray(rng.normal(size=(batch_size, 2, 3, 3, 8)), jnp.float32),
        lifted_features=None,
        bev_features=None,
        bev_coverage=None,
    )
    return predictions, batch


def loss_of(predictions, batch, config=None, distill_terms=None, labels_kind="surroundocc"):
    @jax.jit
    def loss(predictions, batch, distill_terms):
        return total_loss(
            predictions,
            batch,
            config=config or LossConfig(),
            label_set=LABEL_SETS[labels_kind],
            depth_config=DEPTH,
            distill_terms=distill_terms,
        )

    return loss(predictions, batch, distill_terms or {})


def test_every_term_is_named_weighted_and_added_once():
    config = LossConfig(
        cross_entropy=2.0, scene_class_affinity=3.0, lovasz=5.0, depth=7.0, distill=DistillConfig(voxel_kl=0.5)
    )
    loss = loss_of(*make_case(), config, {"voxel_kl": jnp.float32(4.0)})
    terms = {name: float(value) for name, value in loss.terms.items()}
    assert set(terms) == {"cross_entropy", "semantic_affinity", "geometric_affinity", "lovasz", "depth", "voxel_kl"}
    assert all(value > 0 for value in terms.values())
    supervision = (
        2 * terms["cross_entropy"]
        + 3 * (terms["semantic_affinity"] + terms["geometric_affinity"])
        + 5 * terms["lovasz"]
        + 7 * terms["depth"]
    )
    np.testing.assert_allclose(loss.supervision, supervision, rtol=1e-6)
    np.testing.assert_allclose(loss.distillation, 2.0, rtol=1e-6)
    np.testing.assert_allclose(loss.total, supervision + 2.0, rtol=1e-6)


def test_both_heads_receive_a_gradient():
    (voxels, depth), batch = make_case()[0][:2], make_case()[1]

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(voxels, depth):
        predictions = Predictions(voxels, depth, None, None, None)
        return total_loss(
            predictions, batch, config=LossConfig(), label_set=LABEL_SETS["occ3d"], depth_config=DEPTH, distill_terms={}
        ).total

    for value in gradient(voxels, depth):
        assert np.all(np.isfinite(value)) and np.abs(value).max() > 1e-4


def test_weight_zero_leaves_the_term_out():
    config = LossConfig(cross_entropy=0.0, scene_class_affinity=0.0, lovasz=0.0, depth=0.0)
    predictions, batch = make_case()
    loss = loss_of(predictions, batch._replace(labels=None, depth_m=None), config)
    assert loss.terms == {} and loss.total == 0


def test_padding_counts_nothing():
    predictions, batch = make_case(batch_size=1)
    alone = loss_of(predictions, batch)
    stack = lambda tree: jax.tree.map(lambda a: jnp.concatenate([a, a[:, ::-1]]), tree)  # noqa: E731
    padded = Batch(
        images=None,
        rig=CameraRig(None, None, None, None, jnp.ones((2, 2), bool)),
        depth_m=stack(batch.depth_m),
        labels=stack(batch.labels),
        teacher=None,
        sample_index=jnp.zeros(2, jnp.int32),
        is_valid=jnp.asarray([True, False]),
    )
    doubled = predictions._replace(
        voxel_logits=jnp.concatenate([predictions.voxel_logits, -predictions.voxel_logits]),
        depth_logits=jnp.concatenate([predictions.depth_logits, -predictions.depth_logits]),
    )
    for name, value in loss_of(doubled, padded).terms.items():
        np.testing.assert_allclose(value, alone.terms[name], rtol=1e-5, err_msg=name)


def test_surroundocc_ignores_label_0_and_occ3d_does_not():
    predictions, batch = make_case()
    was_others = batch.labels.semantics == 0
    changed = predictions._replace(voxel_logits=jnp.where(was_others[..., None], -1.0, predictions.voxel_logits))
    config = LossConfig(use_camera_mask=False, scene_class_affinity=0.0, lovasz=0.0, depth=0.0)
    for kind, same in (("surroundocc", True), ("occ3d", False)):
        one = loss_of(predictions, batch, config, labels_kind=kind).terms["cross_entropy"]
        two = loss_of(changed, batch, config, labels_kind=kind).terms["cross_entropy"]
        assert (abs(float(one - two)) < 1e-6) is same


def test_what_is_missing_is_named():
    predictions, batch = make_case()
    with pytest.raises(ValueError, match="need labels"):
        loss_of(predictions, batch._replace(labels=None))
    with pytest.raises(ValueError, match="loss.depth=0"):
        loss_of(predictions, batch._replace(depth_m=None))
    with pytest.raises(ValueError, match="weight of its name.*mystery"):
        loss_of(predictions, batch, distill_terms={"mystery": jnp.float32(1.0)})
