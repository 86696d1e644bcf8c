"""Distillation terms on a dense teacher tensor, as they would be without the sparse form: to compare with."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from occjax.classes import FREE
from occjax.config import DistillConfig
from occjax.losses.comparison import shared_weights
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.rows import soften

DENSE_TERMS = ("voxel_kl", "bev_kl", "channel_wise")


def dense_distillation_terms(
    logits: Float[Array, "x y z k"], teacher_log_probs: Float[Array, "x y z k"], config: DistillConfig
) -> dict[str, Float[Array, ""]]:
    """The `DENSE_TERMS` of one sample, those of weight 0 left out.

    They are defined as in `occjax.losses.distillation`, for a teacher that knows every voxel.
    """
    temperature = config.temperature
    terms = {}
    if config.voxel_kl:
        terms["voxel_kl"] = _weighted_kl(soften(teacher_log_probs, temperature), soften(logits, temperature), config)
    if config.channel_wise:
        target, student = (soften(x, temperature).reshape(-1, x.shape[-1]) for x in (teacher_log_probs, logits))
        target, student = jax.nn.log_softmax(target, axis=0), jax.nn.log_softmax(student, axis=0)
        terms["channel_wise"] = jnp.mean(jnp.sum(jnp.exp(target) * (target - student), axis=0))
    if config.bev_kl:
        target, student = (
            soften(column_log_probs_from_voxels(jax.nn.log_softmax(x), None, jnp), temperature)
            for x in (teacher_log_probs, logits)
        )
        terms["bev_kl"] = _weighted_kl(target, student, config)
    return {name: value * temperature**2 for name, value in terms.items()}


def _weighted_kl(target: Float[Array, "*v k"], student: Float[Array, "*v k"], config: DistillConfig):
    is_free = jnp.argmax(target, axis=-1) == FREE
    weights, _ = shared_weights(is_free, jnp.ones_like(is_free), jnp.zeros(()), config.free_share)
    return jnp.sum(weights * jnp.sum(jnp.exp(target) * (target - student), axis=-1))
