import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from occjax.classes import FREE, NUM_CLASSES
from occjax.label_sets import LABEL_SETS
from occjax.losses import occupancy
from occjax.types import VoxelLabels

TERMS = tuple(
    jax.jit(term) for term in (occupancy.semantic_affinity, occupancy.geometric_affinity, occupancy.lovasz_softmax)
)


def probs_of(rows):
    """[V, K] probabilities from {class: probability} per voxel; what is missing goes to free."""
    out = np.zeros((len(rows), NUM_CLASSES), np.float32)
    for row, given in zip(out, rows, strict=True):
        for index, value in given.items():
            row[index] = value
        row[FREE] += 1 - row.sum()
    return jnp.asarray(out)


def labels_of(*values):
    return jnp.asarray(values, jnp.uint8)


def everything(labels):
    return jnp.ones(labels.shape, bool)


def random_case(seed=0, voxels=(3, 8, 8, 4)):
    rng = np.random.default_rng(seed)
    labels = rng.choice([3, 4, 11, 15, FREE], size=voxels, p=[0.02, 0.1, 0.2, 0.1, 0.58]).astype(np.uint8)
    logits = rng.normal(size=(*voxels, NUM_CLASSES)).astype(np.float32) + 2 * np.eye(NUM_CLASSES)[labels]
    return jnp.asarray(logits, jnp.float32), jnp.asarray(labels)


def exact_lovasz(probs, labels):
    """Berman et al. 2018, algorithm 1, class by class with a sort, in float64."""
    losses = []
    for c in np.unique(labels):
        own = (labels == c).astype(np.float64)
        error = np.abs(own - probs[:, c])
        order = np.argsort(-error, kind="stable")
        own = own[order]
        intersection = own.sum() - np.cumsum(own)
        union = own.sum() + np.cumsum(1 - own)
        losses.append(error[order] @ np.diff(1 - intersection / union, prepend=0.0))
    return np.mean(losses)


def test_cross_entropy_by_hand():
    logits = jnp.log(probs_of([{4: 0.5}, {4: 0.25, 11: 0.75}, {}]) + 1e-30)
    labels = labels_of(4, 11, 255)
    weights = jnp.ones(NUM_CLASSES).at[11].set(3.0)
    value = occupancy.cross_entropy(jax.nn.log_softmax(logits), labels, labels != 255, weights)
    np.testing.assert_allclose(value, (-np.log(0.5) - 3 * np.log(0.75)) / 4, rtol=1e-6)


def test_semantic_affinity_by_hand():
    # Class 4: 0.8 of its one voxel, 0.2 elsewhere; free: 0.8 of its one voxel, 0.2 elsewhere.
    value = occupancy.semantic_affinity(probs_of([{4: 0.8}, {4: 0.2}]), labels_of(4, 17), jnp.ones(2, bool))
    np.testing.assert_allclose(value, -3 * np.log(0.8), rtol=1e-5)


def test_semantic_affinity_tells_precision_from_recall():
    # Class 4 claims half of a free voxel: precision 2/3, recall 1, specificity 1/2; free: 1, 1/2, 1.
    value = occupancy.semantic_affinity(probs_of([{4: 1.0}, {4: 0.5}]), labels_of(4, 17), jnp.ones(2, bool))
    np.testing.assert_allclose(value, (-np.log(2 / 3) - 2 * np.log(1 / 2)) / 2, rtol=1e-5)


def test_geometric_affinity_ignores_the_kind_of_occupied():
    labels = labels_of(4, 11, 17, 17)
    right = occupancy.geometric_affinity(probs_of([{4: 0.9}, {11: 0.9}, {}, {4: 0.3}]), labels, everything(labels))
    swapped = occupancy.geometric_affinity(probs_of([{11: 0.9}, {4: 0.9}, {}, {2: 0.3}]), labels, everything(labels))
    np.testing.assert_allclose(right, swapped, rtol=1e-6)
    np.testing.assert_allclose(right, -np.log(1.8 / 2.1) - np.log(0.9) - np.log(1.7 / 2), rtol=1e-5)


def test_lovasz_of_hard_predictions_is_the_mean_jaccard_loss():
    labels = labels_of(4, 4, 17, 17)
    probs = probs_of([{4: 1.0}, {}, {4: 1.0}, {}])
    np.testing.assert_allclose(
        occupancy.lovasz_softmax(probs, labels, everything(labels)), 1 - np.mean([1 / 3, 1 / 3]), rtol=1e-6
    )


@pytest.mark.parametrize("bins", [64, 1024])
@pytest.mark.parametrize("seed", [0, 1])
def test_lovasz_is_within_one_bin_of_the_sorted_one(bins, seed):
    logits, labels = random_case(seed)
    probs = jax.nn.softmax(logits)
    exact = exact_lovasz(np.asarray(probs).reshape(-1, NUM_CLASSES), np.asarray(labels).reshape(-1))
    value = jax.jit(occupancy.lovasz_softmax, static_argnames="bins")(probs, labels, everything(labels), bins=bins)
    assert abs(float(value) - exact) <= 1 / bins
    assert 0.1 < exact < 0.9


def test_lovasz_gradient_is_the_growth_of_the_jaccard_loss():
    # Errors of class 4, falling: own 0.7, other 0.6, own 0.2, other 0.1. Jaccard loss 0, 1/2, 2/3, 1, 1.
    probs = probs_of([{4: 0.3}, {4: 0.6}, {4: 0.8}, {4: 0.1}])
    labels = labels_of(4, 17, 4, 17)
    gradient = jax.grad(lambda p: occupancy.lovasz_softmax(p, labels, everything(labels)))(probs)
    np.testing.assert_allclose(gradient[:, 4] * 2, [-1 / 2, 1 / 6, -1 / 3, 0], atol=1e-6)


@pytest.mark.parametrize("term", TERMS)
def test_terms_fall_to_zero_for_perfect_predictions(term):
    _, labels = random_case()
    assert abs(float(term(jax.nn.one_hot(labels, NUM_CLASSES), labels, everything(labels)))) < 1e-5


@pytest.mark.parametrize("term", TERMS)
def test_voxels_that_do_not_count_change_nothing(term):
    logits, labels = random_case()
    counted = jnp.asarray(np.random.default_rng(3).random(labels.shape) < 0.5)
    other_logits = jnp.where(counted[..., None], logits, -logits)
    other_labels = jnp.where(counted, labels, jnp.uint8(255))
    one = term(jax.nn.softmax(logits), labels, counted)
    two = term(jax.nn.softmax(other_logits), other_labels, counted)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: term(jax.nn.softmax(x), labels, counted)))(logits)
    assert np.all(np.asarray(gradient)[~np.asarray(counted)] == 0) and np.any(np.asarray(gradient) != 0)


@pytest.mark.parametrize("term", [*TERMS, "cross_entropy"])
def test_empty_masks_give_zero_and_finite_gradients(term):
    logits, labels = random_case(voxels=(1, 4, 4, 2))
    nothing = jnp.zeros(labels.shape, bool)

    def loss(x):
        if term == "cross_entropy":
            return occupancy.cross_entropy(jax.nn.log_softmax(x), labels, nothing, jnp.ones(NUM_CLASSES))
        return term(jax.nn.softmax(x), labels, nothing)

    value, gradient = jax.jit(jax.value_and_grad(loss))(logits)
    assert value == 0 and np.all(np.asarray(gradient) == 0)


@pytest.mark.parametrize("term", TERMS)
def test_certain_and_wrong_stays_finite(term):
    labels = labels_of(4, 4, 17, 17)
    logits = jnp.full((4, NUM_CLASSES), -200.0).at[:2, FREE].set(200.0).at[2:, 4].set(200.0)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: term(jax.nn.softmax(x), labels, everything(labels))))(logits)
    assert np.isfinite(value) and value > 0.5 and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("term", TERMS)
def test_one_device_equals_four(term):
    logits, labels = random_case(voxels=(4, 8, 8, 4))
    loss = jax.jit(jax.value_and_grad(lambda x, y: term(jax.nn.softmax(x), y, everything(y))))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    one, one_gradient = loss(logits, labels)
    four, four_gradient = loss(jax.device_put(logits, sharding), jax.device_put(labels, sharding))
    np.testing.assert_allclose(one, four, rtol=1e-6)
    np.testing.assert_allclose(one_gradient, four_gradient, atol=1e-7)


def test_what_counts_depends_on_the_label_set():
    semantics = jnp.asarray(np.array([[0, 4, 17, 255]] * 2, np.uint8).reshape(2, 1, 1, 4))
    camera_mask = jnp.asarray(np.array([[True, True, False, True]] * 2).reshape(2, 1, 1, 4))
    is_valid = jnp.asarray([True, False])

    def counted(kind, mask, labels=None):
        labels = labels or VoxelLabels(semantics, camera_mask)
        out = occupancy.counted_voxels(labels, is_valid, label_set=LABEL_SETS[kind], use_camera_mask=mask)
        assert not out[1].any()
        return out[0].ravel().tolist()

    assert counted("surroundocc", True, VoxelLabels(semantics, None)) == [False, True, True, False]
    assert counted("occ3d", False) == [True, True, True, False]
    assert counted("occ3d", True) == [True, True, False, False]
    with pytest.raises(ValueError, match="carry no camera mask"):
        counted("occ3d", True, VoxelLabels(semantics, None))
