"""Training step: images to predictions, losses, gradients, new state; compiled once for all steps."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, PRNGKeyArray

from occjax.models.preprocess import distort_colors, normalize_images
from occjax.models.student import apply_student
from occjax.system.mesh import replicated
from occjax.train.learner import Learner
from occjax.train.objective import Terms, global_norm, objective_gradient
from occjax.train.state import TrainState, update_ema
from occjax.types import Batch, Predictions


def make_train_step(learner: Learner, mesh: Mesh) -> jax.stages.Wrapped:
    """`step` of this learner, compiled; the state that goes in is donated, so no caller may look at it again."""
    whole = replicated(mesh)
    # Donated: the new state is written over the old one, so that parameters, moments and averages exist once. Its place
    # is said, or the compiler might split what comes back and every step would be compiled for another input.
    return jax.jit(functools.partial(step, learner), donate_argnums=0, out_shardings=(whole, whole))


def step(learner: Learner, state: TrainState, batch: Batch) -> tuple[TrainState, Terms]:
    """The state after one update, and scalars: those of the objective, `grad_norm` and `is_finite`."""
    config = learner.config.train
    # From the seed and the step number alone: a resumed run draws what the uninterrupted one would.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    grads, terms, batch_stats = accumulated_gradients(
        learner, state.params, state.batch_stats, batch, key, learner.is_logged(state.step + 1)
    )
    updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
    params = cast(dict, optax.apply_updates(state.params, updates))  # optax: any tree
    ema = update_ema(state.ema, params["student"], batch_stats, state.step, learner.config.ema_decay)
    # Before clipping: the log shows how large gradients are, and one that is infinite stays so.
    norm = global_norm(grads)
    # Decided on the device: the host looks at one flag, a step later.
    is_finite = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
    metrics = {**terms, "grad_norm": norm, "is_finite": is_finite}
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics


def forward(
    learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray
) -> tuple[Predictions, dict]:
    """Predictions for one micro-batch [B, ...] in training mode, and the running statistics after it.

    `params` are the student's.
    """
    # By sample, not by its place in the batch: what it draws does not change with devices, processes or micro-batches.
    keys = jax.vmap(lambda sample: jax.random.split(jax.random.fold_in(key, sample)))(batch.sample_index)  # [B, 2]
    images = batch.images
    if learner.config.augment.photometric:
        # Here and not in the loader: on the device these are a few elementwise passes.
        images = distort_colors(images, keys[:, 0])
    return apply_student(
        learner.student,
        params,
        batch_stats,
        normalize_images(images),
        batch.rig,
        train=True,
        dropout_keys=keys[:, 1],
    )


def gradients(
    learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray, is_logged: Bool[Array, ""]
) -> tuple[dict, Terms, dict]:
    """Gradients of the objective over one micro-batch [B, ...], its scalars, and the running statistics after it."""
    predictions, forward_pullback, batch_stats = jax.vjp(
        lambda params: forward(learner, params, batch_stats, batch, key), params["student"], has_aux=True
    )
    gradient, terms = objective_gradient(learner, predictions, params["adapter"], batch, is_logged)
    (of_student,) = forward_pullback(gradient.predictions)
    return {"student": of_student, "adapter": gradient.adapter}, terms, batch_stats


def accumulated_gradients(
    learner: Learner, params: dict, batch_stats: dict, batch: Batch, key: PRNGKeyArray, is_logged: Bool[Array, ""]
) -> tuple[dict, Terms, dict]:
    """`gradients` averaged over `train.accumulate_steps` micro-batches [B/count, ...], one after the other.

    The running statistics go through all of them.
    """
    count = learner.config.train.accumulate_steps
    if count == 1:
        return gradients(learner, params, batch_stats, batch, key, is_logged)

    def split(x):
        # Each device cuts its own block of the batch, so nothing moves between devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)  # [count, B/count, ...]

    def add_one(carry, micro_batch):
        batch_stats, total = carry
        grads, terms, batch_stats = gradients(learner, params, batch_stats, micro_batch, key, is_logged)
        total = jax.tree.map(lambda a, b: a + b / count, total, (grads, terms))
        return (batch_stats, total), None

    micro_batches = jax.tree.map(split, batch)
    # `scan` wants the sums to begin with: zeros of the shapes that one micro-batch gives, traced and not computed.
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(functools.partial(gradients, learner), params, batch_stats, first, key, is_logged)[:2]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (batch_stats, (grads, terms)), _ = jax.lax.scan(add_one, (batch_stats, zeros), micro_batches)
    return grads, terms, batch_stats
