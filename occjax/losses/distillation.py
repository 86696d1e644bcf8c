"""Distillation terms: how far the student's voxels, columns and BEV features are from what the teacher says.

The teacher stays sparse. Voxels with a row of their own enter one by one; all others share one distribution b, so that
what they add depends on the student only through sums over voxels of its log-probabilities a at the temperature:
Σ_v KL(b ‖ a_v) = n Σ_c b_c log b_c − Σ_c b_c Σ_v a_vc.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DistillConfig
from occjax.grid import VoxelGrid
from occjax.losses.masked import masked_mean
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.rows import BevMap, VoxelRows, bev_map, soften, voxel_rows
from occjax.types import Predictions, TeacherTargets

_TINY = 1e-30


class BevAdapter(nnx.Module):
    """1×1 convolution from the student's BEV features to the teacher's BEV map; used in training only."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(in_channels, NUM_CLASSES, rngs=rngs)

    def __call__(self, bev_features: Float[Array, "b x y c"]) -> Float[Array, "b x y k"]:
        return self.linear(bev_features.astype(jnp.float32))


def distillation_terms(
    predictions: Predictions,
    teacher: TeacherTargets | None,
    adapter_output: Float[Array, "b x y k"] | None,
    config: DistillConfig,
    grid: VoxelGrid,
) -> dict[str, Float[Array, ""]]:
    """Terms before their weights, each a mean over the samples; a term of weight 0 is left out.

    Args:
      predictions: the student's, on `grid`.
      teacher: batched targets on `grid`.
      adapter_output: `BevAdapter` of the student's BEV features; needed for bev_feature only.
      config: weights, temperature and the share of free space.
      grid: the model's grid.

    Returns:
      "voxel_kl": KL at the temperature, times its square, summed over classes, averaged over voxels (Hinton et al.
        2015), free space weighted down to `config.free_share`.
      "bev_kl": the same over BEV cells, the student's columns by the column rule.
      "channel_wise": per class, KL between the distributions over voxels, averaged over classes (Shu et al. 2021).
      "bev_feature": squared distance of the adapter's output to the teacher's softened BEV log-probabilities, each
        centred per cell, averaged over classes and over cells that the teacher calls occupied.

    Raises:
      ValueError: a weighted term lacks its input.
    """
    wanted = [name for name in ("voxel_kl", "bev_kl", "channel_wise", "bev_feature") if getattr(config, name) > 0]
    if not wanted:
        return {}
    _check(predictions, teacher, adapter_output, wanted, grid)

    def of_sample(logits, teacher, adapted):
        terms = {}
        rows = None if teacher.index is None else voxel_rows(teacher, grid.num_voxels)
        if "voxel_kl" in wanted or "channel_wise" in wanted:
            voxel_terms = _voxel_terms(logits.reshape(grid.num_voxels, -1), rows, config)
            terms |= {name: value for name, value in voxel_terms.items() if name in wanted}
        if "bev_kl" in wanted or "bev_feature" in wanted:
            target = bev_map(teacher, rows, grid.shape)
        if "bev_kl" in wanted:
            valid = None if rows is None or teacher.valid is None else rows.valid.reshape(grid.shape)
            terms["bev_kl"] = _bev_kl(logits, valid, target, config)
        if "bev_feature" in wanted:
            terms["bev_feature"] = _bev_feature(adapted, target, config.temperature)
        return terms

    logits = predictions.voxel_logits.astype(jnp.float32)
    adapted = adapter_output if "bev_feature" in wanted else None
    terms = jax.vmap(of_sample)(logits, teacher, adapted)
    return {name: terms[name].mean() for name in wanted}


def _check(predictions, teacher, adapter_output, wanted: list[str], grid: VoxelGrid) -> None:
    found = predictions.voxel_logits.shape[1:4]
    if found != grid.shape:
        raise ValueError(f"distillation on grid {grid} got predictions of shape {found}; pass the model's own grid")
    if teacher is None:
        raise ValueError(
            f"distillation terms {', '.join(wanted)} need a teacher; set data.teacher_dir or their weights to 0"
        )
    needs_voxels = [name for name in wanted if name in ("voxel_kl", "channel_wise")]
    if teacher.index is None and needs_voxels:
        raise ValueError(
            f"the teacher files hold BEV maps only, but {', '.join(needs_voxels)} need voxels; set these weights to 0 "
            "or convert a dump that has 3D outputs"
        )
    if "bev_feature" in wanted and adapter_output is None:
        raise ValueError("bev_feature needs the output of BevAdapter; pass it or set the weight to 0")


def shared_weights(
    is_free: Bool[Array, "*r"], counts: Bool[Array, "*r"], others: Float[Array, ""], free_share: float
) -> tuple[Float[Array, "*r"], Float[Array, ""]]:
    """Weights that add up to at most 1, free space claiming at most `free_share`.

    Args:
      is_free: what the teacher calls free.
      counts: what counts at all.
      others: number of further free voxels that are not listed.
      free_share: between 0 and 1.

    Returns:
      Weight of each listed one, and of each of the others.
    """
    num_occupied = jnp.sum(counts & ~is_free).astype(jnp.float32)
    num_free = jnp.sum(counts & is_free) + others
    free = jnp.minimum(1 / jnp.maximum(num_free + num_occupied, 1), free_share / jnp.maximum(num_free, 1))
    occupied = (1 - free * num_free) / jnp.maximum(num_occupied, 1)
    return jnp.where(counts, jnp.where(is_free, free, occupied), 0.0), free


@jax.checkpoint
def _dense_sums(
    scaled_logits: Float[Array, "n k"], inactive: Bool[Array, "n"], valid: Bool[Array, "n"]
) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    """Σ over inactive voxels of log-probabilities, and Σ over valid voxels of probabilities.

    The only pass over all voxels; recomputed in the backward pass, so that nothing dense is kept between the two.
    """
    log_probs = jax.nn.log_softmax(scaled_logits)
    in_background = jnp.sum(jnp.where(inactive[:, None], log_probs, 0.0), axis=0)
    return in_background, jnp.sum(jnp.where(valid[:, None], jnp.exp(log_probs), 0.0), axis=0)


def _voxel_terms(logits: Float[Array, "n k"], rows: VoxelRows, config: DistillConfig) -> dict[str, Float[Array, ""]]:
    temperature = config.temperature
    target = soften(rows.log_probs, temperature)
    background = soften(rows.background, temperature)
    # Padding reads zeros: finite, and its weight is 0.
    student = jax.nn.log_softmax(logits.at[rows.index].get(mode="fill", fill_value=0.0) / temperature)
    inactive_sum, mass = _dense_sums(logits / temperature, rows.inactive, rows.valid)
    num_inactive = rows.inactive.sum().astype(jnp.float32)

    is_free = jnp.argmax(target, axis=-1) == FREE
    row_weight, inactive_weight = shared_weights(is_free, rows.counts, num_inactive, config.free_share)
    row_kl = jnp.sum(jnp.exp(target) * (target - student), axis=-1)
    inactive_kl = jnp.sum(jnp.exp(background) * (num_inactive * background - inactive_sum))
    voxel_kl = jnp.sum(row_weight * row_kl) + inactive_weight * inactive_kl

    # Per class, a distribution over the valid voxels: the probabilities divided by their sum.
    in_rows = jnp.where(rows.counts[:, None], jnp.exp(target), 0.0)
    total = in_rows.sum(0) + num_inactive * jnp.exp(background)
    log_total = jnp.log(jnp.maximum(total, _TINY))
    log_mass = jnp.log(jnp.maximum(mass, _TINY))
    gap = jnp.sum(in_rows * (target - student), axis=0)
    gap += jnp.exp(background) * (num_inactive * background - inactive_sum)
    per_class = jnp.where(total > 0, gap / jnp.maximum(total, _TINY) - log_total + log_mass, 0.0)
    return {"voxel_kl": voxel_kl * temperature**2, "channel_wise": per_class.mean() * temperature**2}


def _bev_kl(
    logits: Float[Array, "x y z k"], valid: Bool[Array, "x y z"] | None, target: BevMap, config: DistillConfig
) -> Float[Array, ""]:
    columns = jax.checkpoint(lambda x: column_log_probs_from_voxels(jax.nn.log_softmax(x), valid, jnp))(logits)
    student, teacher = soften(columns, config.temperature), soften(target.log_probs, config.temperature)
    is_free = jnp.argmax(teacher, axis=-1) == FREE
    weight, _ = shared_weights(is_free, target.valid, jnp.zeros(()), config.free_share)
    return jnp.sum(weight * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)) * config.temperature**2


def _bev_feature(adapted: Float[Array, "x y k"], target: BevMap, temperature: float) -> Float[Array, ""]:
    # Centred: a softmax does not see what is added to all classes of a cell.
    teacher = target.log_probs / temperature
    teacher = teacher - teacher.mean(-1, keepdims=True)
    adapted = adapted - adapted.mean(-1, keepdims=True)
    is_occupied = jnp.argmax(target.log_probs, axis=-1) != FREE
    return masked_mean(jnp.mean(jnp.square(adapted - teacher), axis=-1), is_occupied & target.valid)
