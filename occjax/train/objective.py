"""Objective: what training minimises of the student's predictions, its gradient there, and what the log says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from occjax.cpu import sum_all
from occjax.label_sets import label_set
from occjax.losses.distillation import distillation_terms, needs_adapter, share_in_mask
from occjax.losses.total import supervised_terms, weighted_sum
from occjax.models.student import PureDict
from occjax.train.learner import Learner
from occjax.types import Batch, Predictions

Terms = dict[str, Float[Array, ""]]


class ObjectiveGradient(NamedTuple):
    """Gradient of the objective with respect to the student's predictions and the adapter's parameters."""

    predictions: Predictions
    adapter: PureDict


def objective_gradient(
    learner: Learner, predictions: Predictions, adapter: PureDict, batch: Batch, is_logged: Bool[Array, ""]
) -> tuple[ObjectiveGradient, Terms]:
    """Gradient of supervision + distillation over one micro-batch, and scalars for the log.

    Scalars are every term before its weight, `loss`, `supervision`, `distillation` and `bev_coverage`; and

    * with a teacher, at the voxel logits: `gradient_ratio`, the norm of the distillation's gradient over that of the
      supervision's (near 0, distillation would be silently off), and `gradient_cosine` between the two (below 0, they
      pull against each other);
    * with a teacher of voxels, on labels that have a camera mask: `distill_in_mask`, of `share_in_mask`;
    * `gradient/<term>`: the norm of the weighted term's gradient at the prediction that it reads: the depth logits for
      depth, the BEV features (behind the adapter) for bev_feature, the voxel logits for all others. 0 unless
      `is_logged`, since computing them costs as much as the objective and its gradient.
    """
    config, weights = learner.config, learner.config.loss

    def supervision(predictions):
        terms = supervised(learner, predictions, batch)
        return weighted_sum(terms, weights.weights()), terms

    def distillation(predictions, adapter):
        terms = distilled(learner, predictions, adapter, batch)
        return weighted_sum(terms, weights.distill.weights()), terms

    # Apart, as they are logged apart; they share no arithmetic to speak of.
    (supervision_sum, terms), of_supervision = jax.value_and_grad(supervision, has_aux=True)(predictions)
    scalars = {
        "loss": supervision_sum,
        "supervision": supervision_sum,
        "distillation": jnp.zeros(()),
        "bev_coverage": predictions.bev_coverage.mean(),
        **terms,
    }
    gradient = ObjectiveGradient(of_supervision, jax.tree.map(jnp.zeros_like, adapter))
    if weights.distill.is_on:
        (distillation_sum, terms), (of_distillation, of_adapter) = jax.value_and_grad(
            distillation, argnums=(0, 1), has_aux=True
        )(predictions, adapter)
        scalars |= terms | {"loss": supervision_sum + distillation_sum, "distillation": distillation_sum}
        teacher, camera_mask = batch.teacher, _camera_mask(batch)
        if camera_mask is not None and teacher is not None and teacher.voxels is not None:
            scalars["distill_in_mask"] = share_in_mask(teacher, camera_mask, weights.distill, config.grid.build())
        scalars |= _balance(of_supervision.voxel_logits, of_distillation.voxel_logits)
        gradient = ObjectiveGradient(jax.tree.map(jnp.add, of_supervision, of_distillation), of_adapter)

    norms = term_gradient_norms(learner, predictions, adapter, batch, is_logged)
    return gradient, scalars | {f"gradient/{name}": norm for name, norm in norms.items()}


def supervised(learner: Learner, predictions: Predictions, batch: Batch) -> Terms:
    """Supervised terms before their weights."""
    config = learner.config
    return supervised_terms(
        predictions,
        batch,
        config=config.loss,
        label_set=label_set(config.data.labels),
        depth_config=config.model.depth,
        class_counts=learner.class_counts,
    )


def distilled(learner: Learner, predictions: Predictions, adapter: PureDict, batch: Batch) -> Terms:
    """Distillation terms before their weights; the adapter works where one of them reads it."""
    config = learner.config
    adapter_output = None
    if needs_adapter(config.loss.distill):
        adapter_output = nnx.merge(learner.adapter, adapter)(predictions.bev_features)
    return distillation_terms(
        predictions, batch.teacher, adapter_output, config.loss.distill, config.grid.build(), _camera_mask(batch)
    )


def _camera_mask(batch: Batch) -> Bool[Array, "b x y z"] | None:
    return None if batch.labels is None else batch.labels.camera_mask


def term_gradient_norms(
    learner: Learner, predictions: Predictions, adapter: PureDict, batch: Batch, is_logged: Bool[Array, ""]
) -> Terms:
    """Norm of the gradient of each weighted term with respect to the predictions, of which it reads one.

    Zeros unless `is_logged`.
    """
    config = learner.config.loss

    def weighted(terms_of, weights, name):
        return lambda predictions: weights[name] * terms_of(predictions)[name]

    sides = (
        (lambda predictions: supervised(learner, predictions, batch), config.weights()),
        (lambda predictions: distilled(learner, predictions, adapter, batch), config.distill.weights()),
    )
    terms = {
        name: weighted(terms_of, weights, name)
        for terms_of, weights in sides
        for name in jax.eval_shape(terms_of, predictions)
    }
    norm_of = [lambda term=term: global_norm(jax.grad(term)(predictions)) for term in terms.values()]
    # One after the other in a loop, which does not turn at all where nothing is logged: side by side, all of these
    # gradients, each as large as the voxel logits, would be there at once, while the network's activations are too.
    count = jnp.where(is_logged, len(terms), 0)
    norms = jax.lax.fori_loop(
        0, count, lambda i, norms: norms.at[i].set(jax.lax.switch(i, norm_of)), jnp.zeros(len(terms))
    )
    return dict(zip(terms, norms, strict=True))


def _balance(of_supervision: Float[Array, "b x y z k"], of_distillation: Float[Array, "b x y z k"]) -> Terms:
    """Ratio of the norms of two gradients, and the cosine between them."""
    supervision, distillation = global_norm(of_supervision), global_norm(of_distillation)
    # Away from 0: a step in which either has no gradient still has finite figures.
    tiny = 1e-20
    return {
        "gradient_ratio": distillation / jnp.maximum(supervision, tiny),
        "gradient_cosine": sum_all(of_supervision / jnp.maximum(supervision, tiny) * of_distillation)
        / jnp.maximum(distillation, tiny),
    }


def global_norm(tree) -> Float[Array, ""]:
    """Euclidean norm over all arrays of a tree, which does not depend on the number of devices."""
    # Not optax's: its plain sums differ in the sixth digit between one device and four.
    return jnp.sqrt(sum(sum_all(jnp.square(x)) for x in jax.tree.leaves(tree)))
