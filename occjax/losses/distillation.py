"""Distillation terms: how far the student's voxels, columns and BEV features are from what the teacher says.

A term is a function of a `Comparison`, entered in `TERMS` under the name of its weight in `DistillConfig`; nothing else
has to know of it.

The teacher stays sparse. Voxels with a row of their own enter one by one; all others share one distribution b, so that
what they add depends on the student only through sums over voxels of its log-probabilities a at the temperature:
Σ_v KL(b ‖ a_v) = n Σ_c b_c log b_c − Σ_c b_c Σ_v a_vc. Voxels that do not count, since the teacher does not know them
or the cameras do not see them, are left out of both.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DistillConfig
from occjax.grid import VoxelGrid
from occjax.losses.comparison import Comparison, shared_weights
from occjax.losses.masked import masked_mean
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.rows import soften, voxel_rows
from occjax.types import Predictions, TeacherTargets

_TINY = 1e-30  # far below any sum of probabilities that is not 0, and the logarithm of it is finite


class BevAdapter(nnx.Module):
    """1×1 convolution from the student's BEV features to the teacher's BEV map; used in training only."""

    def __init__(self, in_channels: int, *, rngs: nnx.Rngs):
        # float32 and no activation: it is compared with log-probabilities.
        self.linear = nnx.Linear(in_channels, NUM_CLASSES, rngs=rngs)

    def __call__(self, bev_features: Float[Array, "b x y c"]) -> Float[Array, "b x y k"]:
        return self.linear(bev_features.astype(jnp.float32))


def distillation_terms(
    predictions: Predictions,
    teacher: TeacherTargets | None,
    adapter_output: Float[Array, "b x y k"] | None,
    config: DistillConfig,
    grid: VoxelGrid,
    camera_mask: Bool[Array, "b x y z"] | None = None,
) -> dict[str, Float[Array, ""]]:
    """Terms before their weights, each a mean over the samples; a term of weight 0 is left out.

    Args:
      predictions: the student's, on `grid`.
      teacher: batched targets on `grid`.
      adapter_output: `BevAdapter` of the student's BEV features; needed where `needs_adapter(config)`.
      config: weights, temperature, the share of free space, and whether the camera mask decides what counts.
      grid: the model's grid.
      camera_mask: voxels that the cameras see, or None where the labels do not say.

    Raises:
      ValueError: a weighted term lacks its input.
    """
    wanted = _wanted(config)
    if not wanted:
        return {}
    _check(predictions, teacher, adapter_output, wanted, grid)

    def of_sample(logits, teacher, adapted, seen):
        sample = Comparison(logits, adapted, teacher, config, grid, seen)
        return {name: term.function(sample) for name, term in wanted.items()}

    logits = predictions.voxel_logits.astype(jnp.float32)
    adapted = adapter_output if needs_adapter(config) else None
    seen = camera_mask if config.use_camera_mask else None
    terms = jax.vmap(of_sample)(logits, teacher, adapted, seen)
    return {name: terms[name].mean() for name in wanted}


def share_in_mask(
    teacher: TeacherTargets, camera_mask: Bool[Array, "b x y z"], config: DistillConfig, grid: VoxelGrid
) -> Float[Array, ""]:
    """Share of the voxel KL's weight that lies on voxels which the cameras see, over the batch.

    1 with `config.use_camera_mask`; otherwise what is missing from 1 pulls at voxels that supervision may not count.
    """

    def of_sample(teacher, seen):
        sample = Comparison(None, None, teacher, config, grid, seen if config.use_camera_mask else None)
        row_weight, inactive_weight = sample.voxel_weights
        # What counts, and what of it the cameras see.
        inside = voxel_rows(teacher.voxels, grid.num_voxels, seen.reshape(-1))
        counted = sample.rows
        assert counted is not None  # a teacher of BEV maps only has no voxels to weigh
        both = [(row_weight * rows.counts).sum() + inactive_weight * rows.inactive.sum() for rows in (inside, counted)]
        return jnp.stack(both)

    inside, total = jax.vmap(of_sample)(teacher, camera_mask).sum(0)
    return inside / jnp.maximum(total, 1e-12)


def needs_adapter(config: DistillConfig) -> bool:
    """Whether a weighted term compares what `BevAdapter` makes of the student's BEV features."""
    return any(term.needs == "adapter" for term in _wanted(config).values())


def voxel_kl(sample: Comparison) -> Float[Array, ""]:
    """KL at the temperature, times its square, summed over classes, averaged over voxels (Hinton et al. 2015).

    Free space is weighted down to `config.free_share`.
    """
    voxels, (row_weight, inactive_weight) = sample.voxels, sample.voxel_weights
    row_kl = jnp.sum(jnp.exp(voxels.target) * (voxels.target - voxels.student), axis=-1)
    # The square makes up for the gradient, which falls with it, so that a weight means the same at any temperature.
    kl = jnp.sum(row_weight * row_kl) + inactive_weight * jnp.sum(voxels.inactive_gap)
    return kl * sample.config.temperature**2


def bev_kl(sample: Comparison) -> Float[Array, ""]:
    """The same over BEV cells, the student's columns by the column rule."""
    config, target, valid = sample.config, sample.bev, sample.column_voxels
    # Recomputed in the backward pass: log-probabilities of every voxel would be kept between the two.
    columns = jax.checkpoint(lambda x: column_log_probs_from_voxels(jax.nn.log_softmax(x), valid, jnp))(sample.logits)
    student, teacher = soften(columns, config.temperature), soften(target.log_probs, config.temperature)  # [X, Y, K]
    is_free = jnp.argmax(teacher, axis=-1) == FREE
    weight, _ = shared_weights(is_free, target.valid, jnp.zeros(()), config.free_share)
    return jnp.sum(weight * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)) * config.temperature**2


def channel_wise(sample: Comparison) -> Float[Array, ""]:
    """Per class, KL between the distributions over voxels, averaged over classes (Shu et al. 2021)."""
    voxels = sample.voxels
    # Per class, a distribution over the valid voxels: the probabilities divided by their sum.
    in_rows = jnp.where(voxels.counts[:, None], jnp.exp(voxels.target), 0.0)
    total = in_rows.sum(0) + voxels.num_inactive * jnp.exp(voxels.background)
    log_total = jnp.log(jnp.maximum(total, _TINY))
    log_mass = jnp.log(jnp.maximum(voxels.mass, _TINY))
    gap = jnp.sum(in_rows * (voxels.target - voxels.student), axis=0) + voxels.inactive_gap
    per_class = jnp.where(total > 0, gap / jnp.maximum(total, _TINY) - log_total + log_mass, 0.0)
    return per_class.mean() * sample.config.temperature**2


def bev_feature(sample: Comparison) -> Float[Array, ""]:
    """Squared distance of the adapter's output to the teacher's softened BEV log-probabilities.

    Averaged over classes and over cells that the teacher calls occupied.
    """
    target = sample.bev
    assert sample.adapted is not None  # refused by name before any term is computed
    # Centred: a softmax does not see what is added to all classes of a cell.
    teacher = target.log_probs / sample.config.temperature
    teacher = teacher - teacher.mean(-1, keepdims=True)
    # A cell of the features may be of several columns, which then share what it says.
    columns = teacher.shape[0] // sample.adapted.shape[0]
    adapted = jnp.repeat(jnp.repeat(sample.adapted, columns, axis=0), columns, axis=1)  # [X, Y, K]
    adapted = adapted - adapted.mean(-1, keepdims=True)
    is_occupied = jnp.argmax(target.log_probs, axis=-1) != FREE
    return masked_mean(jnp.mean(jnp.square(adapted - teacher), axis=-1), is_occupied & target.valid)


class Term(NamedTuple):
    """A distillation term of one sample, before its weight, and what it needs beside the student's voxels."""

    function: Callable[[Comparison], Float[Array, ""]]
    needs: Literal["teacher voxels", "teacher", "adapter"]


# By the name of the weight in DistillConfig.
TERMS = {
    "voxel_kl": Term(voxel_kl, "teacher voxels"),
    "bev_kl": Term(bev_kl, "teacher"),
    "channel_wise": Term(channel_wise, "teacher voxels"),
    "bev_feature": Term(bev_feature, "adapter"),
}


def _wanted(config: DistillConfig) -> dict[str, Term]:
    """Terms that have a weight, in the order of the configuration's fields."""
    return {name: TERMS[name] for name, weight in config.weights().items() if weight > 0}


def _check(predictions, teacher, adapter_output, wanted: dict[str, Term], grid: VoxelGrid) -> None:
    found = predictions.voxel_logits.shape[1:4]
    if found != grid.shape:
        raise ValueError(f"distillation on grid {grid} got predictions of shape {found}; pass the model's own grid")
    if teacher is None:
        raise ValueError(
            f"distillation terms {', '.join(wanted)} need a teacher; set data.teacher_dir or their weights to 0"
        )
    needs_voxels = [name for name, term in wanted.items() if term.needs == "teacher voxels"]
    if teacher.voxels is None and needs_voxels:
        raise ValueError(
            f"the teacher files hold BEV maps only, but {', '.join(needs_voxels)} need voxels; set these weights to 0 "
            "or convert a dump that has 3D outputs"
        )
    of_adapter = [name for name, term in wanted.items() if term.needs == "adapter"]
    if of_adapter and adapter_output is None:
        raise ValueError(f"{', '.join(of_adapter)} need the output of BevAdapter; pass it or set the weight to 0")
