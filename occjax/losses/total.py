"""Supervised terms by name, and the sum of terms by their weights in the configuration."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from occjax.classes import NUM_CLASSES, OCC3D_CLASS_COUNTS
from occjax.config import DepthConfig, LossConfig
from occjax.label_sets import LabelSet
from occjax.losses import occupancy
from occjax.losses.class_weights import class_weights
from occjax.losses.depth import depth_loss
from occjax.types import Batch, Predictions


def supervised_terms(
    predictions: Predictions,
    batch: Batch,
    *,
    config: LossConfig,
    label_set: LabelSet,
    depth_config: DepthConfig,
    class_counts: np.ndarray = OCC3D_CLASS_COUNTS,
) -> dict[str, Float[Array, ""]]:
    """Supervised terms before their weights; a term of weight 0 is not computed.

    Args:
      predictions: what the student returned for `batch`.
      batch: samples; those with is_valid false count nothing.
      config: weights, and which voxels count.
      label_set: of the batch; says which voxels and classes count.
      depth_config: depth bins of the student.
      class_counts: [K] voxels per class in the training labels, for the class weights.

    Raises:
      ValueError: a term of positive weight needs labels, a camera mask or depth that the batch does not carry.
    """
    weights = config.weights()
    terms = {}
    # Labels and LiDAR are asked for where a weight asks for them: a camera-only data set trains without depth.
    if any(weights[name] for name in weights if name != "depth"):
        if batch.labels is None:
            raise ValueError("supervised losses need labels; give the loader a label set or set their weights to 0")
        semantics = batch.labels.semantics
        counted = occupancy.counted_voxels(
            batch.labels, batch.is_valid, label_set=label_set, use_camera_mask=config.use_camera_mask
        )
        # One pass over the logits for all terms. float32: sums over every voxel of numbers near 0 and 1.
        log_probs = jax.nn.log_softmax(predictions.voxel_logits.astype(jnp.float32))
        probs = jnp.exp(log_probs)
        if weights["cross_entropy"]:
            # Constants of the compiled step: counts of a run do not change.
            balanced = config.class_balanced
            per_class = class_weights(class_counts, ignored=label_set.ignored) if balanced else np.ones(NUM_CLASSES)
            terms["cross_entropy"] = occupancy.cross_entropy(
                log_probs, semantics, counted, jnp.asarray(per_class, jnp.float32)
            )
        for name, term in (
            ("semantic_affinity", occupancy.semantic_affinity),
            ("geometric_affinity", occupancy.geometric_affinity),
            ("lovasz", occupancy.lovasz_softmax),
        ):
            if weights[name]:
                terms[name] = term(probs, semantics, counted)
    if weights["depth"]:
        if batch.depth_m is None:
            raise ValueError("depth supervision needs LiDAR depth in the batch; set loss.depth=0 to train without it")
        counts = batch.rig.is_present & batch.is_valid[:, None]
        terms["depth"] = depth_loss(predictions.depth_logits, batch.depth_m, counts, depth_config)
    return terms


def weighted_sum(terms: dict[str, Float[Array, ""]], weights: dict[str, float]) -> Float[Array, ""]:
    """Sum of weight times term.

    Raises:
      ValueError: a term has no weight of its name.
    """
    unknown = sorted(set(terms) - set(weights))
    if unknown:
        raise ValueError(f"every loss term needs a weight of its name: {unknown} not among {sorted(weights)}")
    return sum((weights[name] * value for name, value in terms.items()), jnp.zeros((), jnp.float32))
