"""Training step: images to predictions, losses, gradients, new state; compiled once for all steps."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from occjax.cpu import sum_all
from occjax.label_sets import label_set
from occjax.losses.distillation import distillation_terms, needs_adapter
from occjax.losses.total import supervised_terms, weighted_sum
from occjax.models.preprocess import distort_colors, normalize_images
from occjax.models.student import apply_student
from occjax.train.learner import Learner
from occjax.train.mesh import replicated
from occjax.train.state import TrainState, update_ema
from occjax.types import Batch, Predictions

# What the losses read: the student's predictions, and the adapter's [B, X, Y, K] where feature distillation is on.
Outputs = tuple[Predictions, Float[Array, "b x y k"] | None]
Terms = dict[str, Float[Array, ""]]


def make_train_step(learner: Learner, mesh: Mesh) -> jax.stages.Wrapped:
    """`step` of this learner, compiled; the state that goes in is donated, so no caller may look at it again."""
    whole = replicated(mesh)
    # Donated: the new state is written over the old one, so that parameters, moments and averages exist once. Its place
    # is said, or the compiler might split what comes back and every step would be compiled for another input.
    return jax.jit(functools.partial(step, learner), donate_argnums=0, out_shardings=(whole, whole))


def step(learner: Learner, state: TrainState, batch: Batch) -> tuple[TrainState, Terms]:
    """The state after one update, and scalars: the terms of `gradients`, `grad_norm` and `is_finite`."""
    config = learner.config.train
    # From the seed and the step number alone: a resumed run draws what the uninterrupted one would.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    grads, terms, batch_stats = accumulated_gradients(learner, state.params, state.batch_stats, batch, key)
    updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
    params = cast(dict, optax.apply_updates(state.params, updates))  # optax: any tree
    ema = update_ema(state.ema, params["student"], batch_stats, state.step, learner.config.ema_decay)
    # Before clipping: the log shows how large gradients are, and one that is infinite stays so.
    norm = global_norm(grads)
    # Decided on the device: the host looks at one flag, a step later.
    is_finite = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
    metrics = {**terms, "grad_norm": norm, "is_finite": is_finite}
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics


def forward(learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray) -> tuple[Outputs, dict]:
    """What the losses read of one micro-batch [B, ...], in training mode, and the running statistics after it."""
    # Colours are distorted here and not in the loader: on the device these are a few elementwise passes.
    photometric_key, dropout_key = jax.random.split(key)
    images = batch.images
    if learner.config.augment.photometric:
        # A key for each sample by its place in the batch, so that devices need not exchange any.
        samples = jnp.arange(images.shape[0])
        images = distort_colors(images, jax.vmap(lambda i: jax.random.fold_in(photometric_key, i))(samples))
    predictions, batch_stats = apply_student(
        learner.student,
        params["student"],
        batch_stats,
        normalize_images(images),
        batch.rig,
        train=True,
        dropout_key=dropout_key,
    )
    adapter_output = None
    if needs_adapter(learner.config.loss.distill):
        adapter_output = nnx.merge(learner.adapter, params["adapter"])(predictions.bev_features)
    return (predictions, adapter_output), batch_stats


def objective(
    learner: Learner, outputs: Outputs, batch: Batch
) -> tuple[tuple[Float[Array, ""], Float[Array, ""]], Terms]:
    """The two sums that training minimises, supervision and distillation, each of weighted terms.

    Beside them every term before its weight, `loss`, `supervision` and `distillation`, for the log.
    """
    config, (predictions, adapter_output) = learner.config, outputs
    distilled = distillation_terms(predictions, batch.teacher, adapter_output, config.loss.distill, config.grid.build())
    supervised = supervised_terms(
        predictions,
        batch,
        config=config.loss,
        label_set=label_set(config.data.labels),
        depth_config=config.model.depth,
        class_counts=learner.class_counts,
    )
    supervision = weighted_sum(supervised, config.loss.weights())
    distillation = weighted_sum(distilled, config.loss.distill.weights())
    terms = {
        "loss": supervision + distillation,
        "supervision": supervision,
        "distillation": distillation,
        **supervised,
        **distilled,
        "bev_coverage": predictions.bev_coverage.mean(),
    }
    return (supervision, distillation), terms


def gradients(
    learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray
) -> tuple[dict, Terms, dict]:
    """Gradients of the objective over one micro-batch [B, ...], its terms, and the running statistics after it.

    With a teacher, the term `gradient_ratio` is the norm of the distillation's gradient over that of the supervision,
    both at the student's outputs (voxel logits, depth logits, BEV features): near 0, distillation would be silently
    off.
    """
    outputs, forward_pullback, batch_stats = jax.vjp(
        lambda params: forward(learner, params, batch_stats, batch, key), params, has_aux=True
    )
    sums, objective_pullback, terms = jax.vjp(lambda outputs: objective(learner, outputs, batch), outputs, has_aux=True)
    # Two pullbacks through the losses, which share no arithmetic to speak of, and one through the network.
    one, zero = jnp.ones_like(sums[0]), jnp.zeros_like(sums[1])
    of_outputs = of_supervision = objective_pullback((one, zero))
    if learner.config.loss.distill.is_on:
        of_distillation = objective_pullback((zero, one))
        # 1e-12: a step whose supervision has no gradient still has a finite ratio.
        terms["gradient_ratio"] = global_norm(of_distillation) / (global_norm(of_supervision) + 1e-12)
        of_outputs = jax.tree.map(jnp.add, of_supervision, of_distillation)
    (grads,) = forward_pullback(*of_outputs)
    return grads, terms, batch_stats


def accumulated_gradients(
    learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray
) -> tuple[dict, Terms, dict]:
    """`gradients` averaged over `train.accumulate_steps` micro-batches [B/count, ...], one after the other.

    The running statistics go through all of them.
    """
    count = learner.config.train.accumulate_steps
    if count == 1:
        return gradients(learner, params, batch_stats, batch, key)

    def split(x):
        # Each device cuts its own block of the batch, so nothing moves between devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)  # [count, B/count, ...]

    def add_one(carry, inputs):
        batch_stats, total = carry
        micro_batch, index = inputs
        grads, terms, batch_stats = gradients(learner, params, batch_stats, micro_batch, jax.random.fold_in(key, index))
        total = jax.tree.map(lambda a, b: a + b / count, total, (grads, terms))
        return (batch_stats, total), None

    micro_batches = jax.tree.map(split, batch)
    # `scan` wants the sums to begin with: zeros of the shapes that one micro-batch gives, traced and not computed.
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(functools.partial(gradients, learner), params, batch_stats, first, key)[:2]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (batch_stats, (grads, terms)), _ = jax.lax.scan(add_one, (batch_stats, zeros), (micro_batches, jnp.arange(count)))
    return grads, terms, batch_stats


def global_norm(tree: Any) -> Float[Array, ""]:
    """Euclidean norm over all arrays of a tree, which does not depend on the number of devices."""
    # Not optax's: its plain sums differ in the sixth digit between one device and four.
    return jnp.sqrt(sum(sum_all(jnp.square(x)) for x in jax.tree.leaves(tree)))
