"""Comparison: one sample's student beside its teacher, and what several distillation terms share of it."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from occjax.classes import FREE
from occjax.config import DistillConfig
from occjax.grid import VoxelGrid
from occjax.targets.rows import BevMap, VoxelRows, bev_map, soften, voxel_rows
from occjax.types import TeacherTargets


class VoxelComparison(NamedTuple):
    """Both sides at the temperature, voxel by voxel where the teacher has a row, summed over all others.

    Attributes:
      target, student: float32 [R, K] log-probabilities of the teacher's rows.
      counts: [R] rows of valid voxels; padding does not count.
      background: float32 [K] the teacher's, of each voxel without a row.
      inactive_sum: float32 [K] sum of the student's log-probabilities over the valid voxels without a row.
      num_inactive: number of those voxels.
      mass: float32 [K] sum of the student's probabilities over all valid voxels.
    """

    target: Float[Array, "r k"]
    student: Float[Array, "r k"]
    counts: Bool[Array, "r"]
    background: Float[Array, "k"]
    inactive_sum: Float[Array, "k"]
    num_inactive: Float[Array, ""]
    mass: Float[Array, "k"]

    @property
    def inactive_gap(self) -> Float[Array, "k"]:
        """Per class, what the voxels without a row add to Σ p (log p − log q)."""
        return jnp.exp(self.background) * (self.num_inactive * self.background - self.inactive_sum)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """One sample's student beside its teacher; what several terms share is computed when the first one asks for it.

    Attributes:
      logits: float32 [X, Y, Z, K] of the student, or None where only the teacher is looked at.
      adapted: float32 [X', Y', K] what the adapter makes of the student's BEV features, or None.
      teacher: what the teacher says about the sample.
      config: temperature and the share of free space.
      grid: the model's grid.
      seen: bool [X, Y, Z] voxels that count, if the teacher knows them; None = all that it knows.
    """

    logits: Float[Array, "x y z k"] | None
    adapted: Float[Array, "cells_x cells_y k"] | None
    teacher: TeacherTargets
    config: DistillConfig
    grid: VoxelGrid
    seen: Bool[Array, "x y z"] | None

    @functools.cached_property
    def rows(self) -> VoxelRows | None:
        """The teacher's voxels, valid where they count; None where it has BEV maps only."""
        voxels, seen = self.teacher.voxels, self.seen
        if voxels is None:
            return None
        return voxel_rows(voxels, self.grid.num_voxels, None if seen is None else seen.reshape(-1))

    @functools.cached_property
    def bev(self) -> BevMap:
        """The teacher's BEV map: its own, or that of its voxels that count by the column rule.

        A cell counts if at least one voxel of it does.
        """
        target = bev_map(self.teacher, self.rows, self.grid.shape)
        return target if self.seen is None else target._replace(valid=target.valid & self.seen.any(-1))

    @functools.cached_property
    def column_voxels(self) -> Bool[Array, "x y z"] | None:
        """Voxels that the student's columns are made of, all others being free there; None = all.

        Both sides of a column must be of the same voxels. Those that count, where the teacher's columns are made of
        its voxels. All, where it has a map of its own, which spoke of whole columns when it was made: against part of
        a column, it would ask of the seen voxels what is true of unseen ones.
        """
        rows, voxels = self.rows, self.teacher.voxels
        if rows is None or voxels is None or self.teacher.bev is not None:
            return None
        return None if voxels.valid is None and self.seen is None else rows.valid.reshape(self.grid.shape)

    @functools.cached_property
    def voxel_weights(self) -> tuple[Float[Array, "r"], Float[Array, ""]]:
        """Weight in the voxel KL of each row, and of each voxel without one; free space has its share at most."""
        rows = self.rows
        assert rows is not None  # refused by name before any term is computed
        # Softening leaves the most probable class what it is. Voxels without a row are free ones: the background is
        # what the teacher says of empty space.
        is_free = jnp.argmax(rows.log_probs, axis=-1) == FREE
        return shared_weights(is_free, rows.counts, rows.inactive.sum().astype(jnp.float32), self.config.free_share)

    @functools.cached_property
    def voxels(self) -> VoxelComparison:
        """Both sides softened; the one pass over all voxels."""
        temperature, rows = self.config.temperature, self.rows
        assert rows is not None and self.logits is not None  # refused by name before any term is computed
        logits = self.logits.reshape(self.grid.num_voxels, -1)  # [X*Y*Z, K]
        target, background = soften(rows.log_probs, temperature), soften(rows.background, temperature)
        # Padding reads zeros: finite, and its weight is 0.
        student = jax.nn.log_softmax(logits.at[rows.index].get(mode="fill", fill_value=0.0) / temperature)
        inactive_sum, mass = _dense_sums(logits / temperature, rows.inactive, rows.valid)
        num_inactive = rows.inactive.sum().astype(jnp.float32)
        return VoxelComparison(target, student, rows.counts, background, inactive_sum, num_inactive, mass)


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
    # Every voxel alike, unless free space (most of them) would then have more than its share.
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
