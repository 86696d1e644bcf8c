"""Class weights reach the cross-entropy: of the run's own counts, only where they are asked for."""

import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES, OCC3D_CLASS_COUNTS
from occjax.config import Config, LossConfig
from occjax.train.learner import Learner
from occjax.train.objective import supervised
from occjax.types import Batch, Predictions, VoxelLabels

COUNTS = np.arange(1, NUM_CLASSES + 1) ** 6  # of every size, and in another order than Occ3D's


def weights_of(counts, ignored):
    """1 / log(frequency + 0.001) with counts scaled to the size of Occ3D, mean 1 over the classes that count."""
    counted = [c for c in range(NUM_CLASSES) if c not in ignored]
    weights = np.zeros(NUM_CLASSES)
    for c in counted:
        weights[c] = 1 / np.log(max(counts[c] * OCC3D_CLASS_COUNTS.sum() / counts.sum(), 1e4) + 0.001)
    return weights / weights[counted].mean()


@pytest.mark.parametrize(
    ("labels", "balanced", "counts"),
    [("surroundocc", True, COUNTS), ("surroundocc", False, COUNTS), ("occ3d", True, OCC3D_CLASS_COUNTS)],
)
def test_cross_entropy_weighs_each_voxel_by_its_class(labels, balanced, counts):
    rng = np.random.default_rng(0)
    semantics = np.array([4, 0, 11, FREE, FREE, 255, 2, 16], np.uint8).reshape(1, 2, 2, 2)
    logits = rng.normal(size=(*semantics.shape, NUM_CLASSES)).astype(np.float32)
    batch = Batch(*[None] * 7)._replace(
        labels=VoxelLabels(jnp.asarray(semantics), jnp.ones(semantics.shape, bool)), is_valid=jnp.ones(1, bool)
    )
    config = Config(loss=LossConfig(class_balanced=balanced, scene_class_affinity=0.0, lovasz=0.0, depth=0.0))
    config.data.labels = labels
    learner = Learner(**dict.fromkeys(Learner._fields) | {"config": config, "class_counts": counts})
    found = supervised(learner, Predictions(jnp.asarray(logits), None, None, None, None), batch)
    ignored = (0,) if labels == "surroundocc" else ()
    weights = weights_of(counts, ignored) if balanced else np.ones(NUM_CLASSES)
    total = weight = 0.0
    for place in np.ndindex(semantics.shape):
        c = semantics[place]
        if c < NUM_CLASSES and c not in ignored:
            total += weights[c] * (np.log(np.exp(logits[place]).sum()) - logits[place][c])
            weight += weights[c]
    assert set(found) == {"cross_entropy"}
    np.testing.assert_allclose(found["cross_entropy"], total / weight, rtol=1e-5)
