import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import NUM_CLASSES
from occjax.config import DepthConfig, LossConfig
from occjax.label_sets import LABEL_SETS
from occjax.losses.total import supervised_terms, weighted_sum
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


def terms_of(predictions, batch, config=None, labels_kind="surroundocc"):
    @jax.jit
    def terms(predictions, batch):
        return supervised_terms(
            predictions,
            batch,
            config=config or LossConfig(),
            label_set=LABEL_SETS[labels_kind],
            depth_config=DEPTH,
        )

    return terms(predictions, batch)


def test_every_term_is_named_weighted_and_added_once():
    config = LossConfig(cross_entropy=2.0, scene_class_affinity=3.0, lovasz=5.0, depth=7.0)
    terms = terms_of(*make_case(), config)
    assert set(terms) == {"cross_entropy", "semantic_affinity", "geometric_affinity", "lovasz", "depth"}
    assert all(value > 0 for value in terms.values())
    by_hand = (
        2 * terms["cross_entropy"]
        + 3 * (terms["semantic_affinity"] + terms["geometric_affinity"])
        + 5 * terms["lovasz"]
        + 7 * terms["depth"]
    )
    np.testing.assert_allclose(weighted_sum(terms, config.weights()), by_hand, rtol=1e-6)


def test_both_heads_receive_a_gradient():
    (voxels, depth), batch = make_case()[0][:2], make_case()[1]

    def loss(voxels, depth):
        predictions = Predictions(voxels, depth, None, None, None)
        return weighted_sum(terms_of(predictions, batch, labels_kind="occ3d"), LossConfig().weights())

    for value in jax.jit(jax.grad(loss, argnums=(0, 1)))(voxels, depth):
        assert np.all(np.isfinite(value)) and np.abs(value).max() > 1e-4


def test_weight_zero_leaves_the_term_out():
    config = LossConfig(cross_entropy=0.0, scene_class_affinity=0.0, lovasz=0.0, depth=0.0)
    predictions, batch = make_case()
    terms = terms_of(predictions, batch._replace(labels=None, depth_m=None), config)
    assert terms == {} and weighted_sum(terms, config.weights()) == 0


def test_padding_counts_nothing():
    predictions, batch = make_case(batch_size=1)
    alone = terms_of(predictions, batch)
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
    for name, value in terms_of(doubled, padded).items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-5, err_msg=name)


def test_surroundocc_ignores_label_0_and_occ3d_does_not():
    predictions, batch = make_case()
    was_others = batch.labels.semantics == 0
    changed = predictions._replace(voxel_logits=jnp.where(was_others[..., None], -1.0, predictions.voxel_logits))
    config = LossConfig(use_camera_mask=False, scene_class_affinity=0.0, lovasz=0.0, depth=0.0)
    for kind, same in (("surroundocc", True), ("occ3d", False)):
        one = terms_of(predictions, batch, config, labels_kind=kind)["cross_entropy"]
        two = terms_of(changed, batch, config, labels_kind=kind)["cross_entropy"]
        assert (abs(float(one - two)) < 1e-6) is same


def test_what_is_missing_is_named():
    predictions, batch = make_case()
    with pytest.raises(ValueError, match="need labels"):
        terms_of(predictions, batch._replace(labels=None))
    with pytest.raises(ValueError, match="loss.depth=0"):
        terms_of(predictions, batch._replace(depth_m=None))
    with pytest.raises(ValueError, match="weight of its name.*mystery"):
        weighted_sum({"mystery": jnp.float32(1.0)}, LossConfig().weights())
