"""One update: images to predictions, losses, gradients, new state; compiled once for all steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from occjax.config import Config
from occjax.losses.distillation import distillation_terms
from occjax.losses.total import total_loss
from occjax.models.preprocess import distort_colors, normalize_images
from occjax.models.student import apply_student
from occjax.train.mesh import replicated
from occjax.train.state import Program, TrainState, update_ema
from occjax.types import Batch


def make_loss_fn(config: Config, program: Program, class_counts: np.ndarray) -> Callable:
    """The objective of one micro-batch.

    Args:
      config: the run's configuration.
      program: graphs of student and adapter.
      class_counts: [K] voxels per class, for the class weights of the cross-entropy.

    Returns:
      `loss_fn(params, batch_stats, batch, key) -> ((supervision, distillation), (terms, batch_stats))`: the two
      weighted sums, every named term before its weight, and the updated running statistics.
    """
    grid = config.grid.build()

    def loss_fn(params: dict, batch_stats: dict, batch: Batch, key: jax.Array):
        photometric_key, dropout_key = jax.random.split(key)
        images = batch.images
        if config.augment.photometric:
            samples = jnp.arange(images.shape[0])
            images = distort_colors(images, jax.vmap(lambda i: jax.random.fold_in(photometric_key, i))(samples))
        images = normalize_images(images)
        predictions, batch_stats = apply_student(
            program.student, params["student"], batch_stats, images, batch.rig, train=True, dropout_key=dropout_key
        )
        distill = {}
        if config.loss.distill.is_on:
            adapter_output = nnx.merge(program.adapter, params["adapter"])(predictions.bev_features)
            distill = distillation_terms(predictions, batch.teacher, adapter_output, config.loss.distill, grid)
        losses = total_loss(
            predictions,
            batch,
            config=config.loss,
            labels_kind=config.data.labels,
            depth_config=config.model.depth,
            distill_terms=distill,
            class_counts=class_counts,
        )
        terms = {
            "supervision": losses.supervision,
            "distillation": losses.distillation,
            **losses.terms,
            "bev_coverage": predictions.bev_coverage.mean(),
        }
        return (losses.supervision, losses.distillation), (terms, batch_stats)

    return loss_fn


def make_train_step(config: Config, program: Program, mesh: Mesh, class_counts: np.ndarray) -> Callable:
    """Compiled `step(state, batch) -> (state, metrics)`; the state that goes in is donated.

    `metrics` are float32 scalars: every loss term, `loss`, `grad_norm` and `is_finite`. Randomness comes from the
    seed and the step number alone, so a resumed run draws what the uninterrupted one would.
    """
    loss_fn = make_loss_fn(config, program, class_counts)
    micro_batches = config.train.accumulate_steps

    def micro_step(params, batch_stats, batch, key):
        def summed(params):
            (supervision, distillation), aux = loss_fn(params, batch_stats, batch, key)
            return supervision + distillation, aux

        (loss, (terms, batch_stats)), grads = jax.value_and_grad(summed, has_aux=True)(params)
        return grads, {"loss": loss, **terms}, batch_stats

    def step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
        if micro_batches == 1:
            grads, terms, batch_stats = micro_step(state.params, state.batch_stats, batch, key)
        else:
            grads, terms, batch_stats = _accumulate(micro_step, micro_batches, state, batch, key)
        updates, opt_state = program.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = update_ema(state.ema, params["student"], batch_stats, state.step, config.train.ema_decay)
        norm = optax.global_norm(grads)
        is_finite = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
        metrics = {**terms, "grad_norm": norm, "is_finite": is_finite}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    whole = replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(whole, whole))


def _accumulate(micro_step: Callable, count: int, state: TrainState, batch: Batch, key: jax.Array):
    """Mean gradients and terms over `count` micro-batches, one after the other; statistics run through all."""

    def split(x):
        # Each device cuts its own block of the batch, so nothing moves between devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)

    def body(carry, inputs):
        batch_stats, total = carry
        micro_batch, index = inputs
        grads, terms, batch_stats = micro_step(state.params, batch_stats, micro_batch, jax.random.fold_in(key, index))
        total = jax.tree.map(lambda a, b: a + b / count, total, (grads, terms))
        return (batch_stats, total), None

    micro_batches = jax.tree.map(split, batch)
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(micro_step, state.params, state.batch_stats, first, key)[:2]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (batch_stats, (grads, terms)), _ = jax.lax.scan(
        body, (state.batch_stats, zeros), (micro_batches, jnp.arange(count))
    )
    return grads, terms, batch_stats


def make_gradient_norms(config: Config, program: Program, mesh: Mesh, class_counts: np.ndarray) -> Callable:
    """Compiled `norms(state, batch) -> {"supervision", "distillation", "ratio"}`: global gradient norms of the two
    weighted sums over the student's parameters. One forward pass, two backward passes; the state is left alone."""
    loss_fn = make_loss_fn(config, program, class_counts)

    def norms(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)

        def of_student(student_params):
            params = {**state.params, "student": student_params}
            return loss_fn(params, state.batch_stats, batch, key)[0]

        (supervision, distillation), pullback = jax.vjp(of_student, state.params["student"])
        one, zero = jnp.ones_like(supervision), jnp.zeros_like(distillation)
        supervision_norm = optax.global_norm(pullback((one, zero)))
        distillation_norm = optax.global_norm(pullback((zero, one)))
        return {
            "supervision": supervision_norm,
            "distillation": distillation_norm,
            "ratio": distillation_norm / jnp.maximum(supervision_norm, 1e-12),
        }

    return jax.jit(norms, out_shardings=replicated(mesh))
