"""One update: images to predictions, losses, gradients, new state; compiled once for all steps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from occjax.config import Config
from occjax.label_sets import label_set
from occjax.losses.distillation import distillation_terms, needs_adapter
from occjax.losses.masked import sum_all
from occjax.losses.total import total_loss
from occjax.models.preprocess import distort_colors, normalize_images
from occjax.models.student import apply_student
from occjax.train.mesh import replicated
from occjax.train.state import Program, TrainState, update_ema
from occjax.types import Batch


def global_norm(tree) -> jax.Array:
    """Euclidean norm over all arrays of a tree, by short sums, so that it does not depend on the number of devices."""
    return jnp.sqrt(sum(sum_all(jnp.square(x)) for x in jax.tree.leaves(tree)))


def make_gradients(config: Config, program: Program, class_counts: np.ndarray) -> Callable:
    """The objective of one micro-batch and its gradients.

    Args:
      config: the run's configuration.
      program: graphs of student and adapter.
      class_counts: [K] voxels per class, for the class weights of the cross-entropy.

    Returns:
      `gradients(params, batch_stats, batch, key) -> (grads, terms, batch_stats)`: gradients of the total loss, every
      term before its weight beside `loss`, `supervision` and `distillation` (the weighted sums), and the updated
      running statistics. With a teacher, `gradient_ratio` is the norm of the distillation's gradient over that of the
      supervision, both at the student's outputs (voxel logits, depth logits, BEV features): near 0, distillation
      would be silently off.
    """
    grid = config.grid.build()

    def forward(params: dict, batch_stats: dict, batch: Batch, key: jax.Array):
        photometric_key, dropout_key = jax.random.split(key)
        images = batch.images
        if config.augment.photometric:
            samples = jnp.arange(images.shape[0])
            images = distort_colors(images, jax.vmap(lambda i: jax.random.fold_in(photometric_key, i))(samples))
        predictions, batch_stats = apply_student(
            program.student,
            params["student"],
            batch_stats,
            normalize_images(images),
            batch.rig,
            train=True,
            dropout_key=dropout_key,
        )
        adapter_output = None
        if needs_adapter(config.loss.distill):
            adapter_output = nnx.merge(program.adapter, params["adapter"])(predictions.bev_features)
        return (predictions, adapter_output), batch_stats

    def losses(outputs, batch: Batch):
        predictions, adapter_output = outputs
        distill = {}
        if config.loss.distill.is_on:
            distill = distillation_terms(predictions, batch.teacher, adapter_output, config.loss.distill, grid)
        values = total_loss(
            predictions,
            batch,
            config=config.loss,
            label_set=label_set(config.data.labels),
            depth_config=config.model.depth,
            distill_terms=distill,
            class_counts=class_counts,
        )
        terms = {
            "loss": values.total,
            "supervision": values.supervision,
            "distillation": values.distillation,
            **values.terms,
            "bev_coverage": predictions.bev_coverage.mean(),
        }
        return (values.supervision, values.distillation), terms

    def gradients(params: dict, batch_stats: dict, batch: Batch, key: jax.Array):
        outputs, forward_pullback, batch_stats = jax.vjp(
            lambda params: forward(params, batch_stats, batch, key), params, has_aux=True
        )
        sums, losses_pullback, terms = jax.vjp(lambda outputs: losses(outputs, batch), outputs, has_aux=True)
        # Two pullbacks through the losses, which share no arithmetic to speak of, and one through the network.
        one, zero = jnp.ones_like(sums[0]), jnp.zeros_like(sums[1])
        (of_supervision,) = losses_pullback((one, zero))
        if config.loss.distill.is_on:
            (of_distillation,) = losses_pullback((zero, one))
            terms["gradient_ratio"] = global_norm(of_distillation) / (global_norm(of_supervision) + 1e-12)
            of_outputs = jax.tree.map(jnp.add, of_supervision, of_distillation)
        else:
            of_outputs = of_supervision
        (grads,) = forward_pullback(of_outputs)
        return grads, terms, batch_stats

    return gradients


def make_train_step(config: Config, program: Program, mesh: Mesh, class_counts: np.ndarray) -> Callable:
    """Compiled `step(state, batch) -> (state, metrics)`; the state that goes in is donated.

    `metrics` are scalars: the terms of `make_gradients`, `grad_norm` and `is_finite`. Randomness comes from the seed
    and the step number alone, so a resumed run draws what the uninterrupted one would.
    """
    gradients = make_gradients(config, program, class_counts)
    micro_batches = config.train.accumulate_steps

    def step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
        if micro_batches == 1:
            grads, terms, batch_stats = gradients(state.params, state.batch_stats, batch, key)
        else:
            grads, terms, batch_stats = _accumulate(gradients, micro_batches, state, batch, key)
        updates, opt_state = program.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = update_ema(state.ema, params["student"], batch_stats, state.step, config.train.ema_decay)
        norm = global_norm(grads)
        is_finite = jnp.isfinite(terms["loss"]) & jnp.isfinite(norm)
        metrics = {**terms, "grad_norm": norm, "is_finite": is_finite}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    whole = replicated(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(whole, whole))


def _accumulate(gradients: Callable, count: int, state: TrainState, batch: Batch, key: jax.Array):
    """Mean gradients and terms over `count` micro-batches, one after the other; statistics run through all."""

    def split(x):
        # Each device cuts its own block of the batch, so nothing moves between devices.
        return jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1)

    def body(carry, inputs):
        batch_stats, total = carry
        micro_batch, index = inputs
        grads, terms, batch_stats = gradients(state.params, batch_stats, micro_batch, jax.random.fold_in(key, index))
        total = jax.tree.map(lambda a, b: a + b / count, total, (grads, terms))
        return (batch_stats, total), None

    micro_batches = jax.tree.map(split, batch)
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(gradients, state.params, state.batch_stats, first, key)[:2]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (batch_stats, (grads, terms)), _ = jax.lax.scan(
        body, (state.batch_stats, zeros), (micro_batches, jnp.arange(count))
    )
    return grads, terms, batch_stats
