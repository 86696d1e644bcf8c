"""Objective: what training minimises of the student's predictions, its gradient there, and what the log says."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from occjax.label_sets import label_set
from occjax.losses.distillation import distillation_terms, needs_adapter, share_in_mask
from occjax.losses.total import supervised_terms, weighted_sum
from occjax.models.student import PureDict
from occjax.system.cpu import sum_all
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
    * with a teacher of voxels, on labels that have a camera mask: `distill_in_mask`, of `share_in_mask`; 0
      unless `is_logged`;
    * `gradient/<term>`: the norm of the weighted term's gradient at the prediction that it reads: the depth logits for
      depth, the BEV features (behind the adapter) for bev_feature, the voxel logits for all others. 0 unless
      `is_logged`, since computing them costs as much as the objective and its gradient.
    """
    config, weights = learner.config, learner.config.loss
    # Apart, as they are logged apart; they share no arithmetic to speak of.
    terms, pullback = weighted_terms(lambda p: supervised(learner, p, batch), weights.weights(), predictions)
    (of_supervision,) = pullback(jnp.ones(len(terms)))
    supervision = weighted_sum(terms, weights.weights())
    scalars = {
        "loss": supervision,
        "supervision": supervision,
        "distillation": jnp.zeros(()),
        "bev_coverage": predictions.bev_coverage.mean(),
        **terms,
        **term_gradient_norms(terms, pullback, is_logged),
    }
    gradient = ObjectiveGradient(of_supervision, jax.tree.map(jnp.zeros_like, adapter))
    if weights.distill.is_on:
        terms, pullback = weighted_terms(
            lambda p, a: distilled(learner, p, a, batch), weights.distill.weights(), predictions, adapter
        )
        of_distillation, of_adapter = pullback(jnp.ones(len(terms)))
        distillation = weighted_sum(terms, weights.distill.weights())
        scalars |= {"loss": supervision + distillation, "distillation": distillation}
        scalars |= terms | term_gradient_norms(terms, pullback, is_logged)
        teacher, camera_mask = batch.teacher, _camera_mask(batch)
        if camera_mask is not None and teacher is not None and teacher.voxels is not None:
            share = functools.partial(share_in_mask, teacher, camera_mask, weights.distill, config.grid.build())
            scalars["distill_in_mask"] = jax.lax.cond(is_logged, share, lambda: jnp.zeros(()))
        scalars |= _balance(of_supervision.voxel_logits, of_distillation.voxel_logits)
        gradient = ObjectiveGradient(jax.tree.map(jnp.add, of_supervision, of_distillation), of_adapter)
    return gradient, scalars


def weighted_terms(
    terms_of: Callable[..., Terms], weights: dict[str, float], *inputs
) -> tuple[Terms, Callable[[Float[Array, "t"]], tuple]]:
    """Terms of `inputs` before their weights, and the pullback of the vector of weighted terms, in the same order."""

    def vector_of(*inputs):
        terms = terms_of(*inputs)
        # In the order in which JAX gives a dict back, which is not that of its making.
        weighted = [weighted_sum({name: terms[name]}, weights) for name in sorted(terms)]
        return jnp.stack(weighted) if weighted else jnp.zeros(0), terms

    _, pullback, terms = jax.vjp(vector_of, *inputs, has_aux=True)
    return terms, pullback


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


def term_gradient_norms(terms: Terms, pullback: Callable, is_logged: Bool[Array, ""]) -> Terms:
    """`gradient/<term>`: norm of each weighted term's gradient at the predictions, of which it reads one.

    Zeros unless `is_logged`.
    """
    if not terms:
        return {}
    # One after the other in a loop, which does not turn at all where nothing is logged: side by side, all of these
    # gradients, each as large as the voxel logits, would be there at once, while the network's activations are too.
    # And one program for all: each term's own would add a third to what is compiled.
    one_hot = jnp.eye(len(terms))
    count = jnp.where(is_logged, len(terms), 0)
    norms = jax.lax.fori_loop(
        0, count, lambda i, norms: norms.at[i].set(global_norm(pullback(one_hot[i])[0])), jnp.zeros(len(terms))
    )
    return {f"gradient/{name}": norm for name, norm in zip(terms, norms, strict=True)}


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
