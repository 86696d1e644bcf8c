"""Optimizer: AdamW with warm-up, cosine decay and clipping, over the parameters that train."""

import jax
import optax

from occjax.config import TrainConfig


def learning_rate_schedule(config: TrainConfig, total_steps: int) -> optax.Schedule:
    """Linear warm-up from `warmup_factor` times the rate, then cosine to zero at `total_steps`.

    Args:
      config: rate, warm-up steps and factor.
      total_steps: updates of the whole run; a run shorter than its warm-up warms up over its first half.
    """
    peak = config.learning_rate
    # optax wants the cosine to have a length.
    warmup = min(config.warmup_steps, total_steps // 2)
    return optax.warmup_cosine_decay_schedule(config.warmup_factor * peak, peak, warmup, total_steps)


def decay_mask(params: dict) -> dict:
    """True for the kernels: weight decay leaves biases and normalisation scales alone."""
    # Kernels are the only arrays of two axes or more.
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def make_optimizer(config: TrainConfig, total_steps: int, trainable: dict) -> optax.GradientTransformation:
    """AdamW for the parameters that `trainable` (a tree of bool like them) marks; the others stay as they are.

    Frozen parameters get no moments, no decay and no share in the clipped norm.
    """
    adamw = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(learning_rate_schedule(config, total_steps), weight_decay=config.weight_decay, mask=decay_mask),
    )
    # Apart before the chain, so that the clipped norm is that of what moves.
    labels = jax.tree.map(lambda t: "train" if t else "frozen", trainable)
    return optax.partition({"train": adamw, "frozen": optax.set_to_zero()}, labels)
