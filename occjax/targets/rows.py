"""Teacher targets on the device: codes become small tables of log-probabilities, never a dense voxel tensor."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from occjax.classes import NUM_CLASSES
from occjax.targets.codec import decode_rows
from occjax.targets.column_rule import column_log_probs, log_free_from
from occjax.types import TeacherTargets, VoxelCodes


class VoxelRows(NamedTuple):
    """What the teacher says about one sample's voxels. N = X*Y*Z; a row that is padding has counts = False.

    Attributes:
      index: flat voxel of each row, N for padding.
      log_probs: of each row.
      counts: rows of valid voxels.
      background: log-probabilities of every inactive voxel.
      inactive: valid voxels without a row.
      valid: voxels that the teacher knows.
    """

    index: Int[Array, "m"]
    log_probs: Float[Array, "m k"]
    counts: Bool[Array, "m"]
    background: Float[Array, "k"]
    inactive: Bool[Array, "n"]
    valid: Bool[Array, "n"]


class BevMap(NamedTuple):
    """What the teacher says about one sample's BEV cells: log-probabilities and where they count."""

    log_probs: Float[Array, "x y k"]
    valid: Bool[Array, "x y"]


def soften(log_probs: Float[Array, "*v k"], temperature: float) -> Float[Array, "*v k"]:
    """Log-probabilities at a temperature."""
    return jax.nn.log_softmax(log_probs / temperature)


def _mask(bits: UInt8[Array, "bytes"] | None, count: int) -> Bool[Array, "n"]:
    return jnp.ones(count, bool) if bits is None else jnp.unpackbits(bits, count=count).astype(bool)


def voxel_rows(voxels: VoxelCodes, num_voxels: int, seen: Bool[Array, "n"] | None = None) -> VoxelRows:
    """Rows of one sample (no batch axis); where `seen` is given, no other voxel is valid."""
    valid = _mask(voxels.valid, num_voxels)
    if seen is not None:
        valid = valid & seen
    # Padding lies one past the grid: `fill` and `drop` keep it out without a mask of its own.
    counts = valid.at[voxels.index].get(mode="fill", fill_value=False)
    inactive = valid.at[voxels.index].set(False, mode="drop")
    log_probs = decode_rows(voxels.free, voxels.levels, voxels.background.shape[-1], jnp)
    return VoxelRows(voxels.index, log_probs, counts, voxels.background, inactive, valid)


def bev_map(teacher: TeacherTargets, rows: VoxelRows | None, shape: tuple[int, int, int]) -> BevMap:
    """BEV map of one sample: its own if the folder has one, else by the column rule from the voxel rows."""
    x, y, z = shape
    if teacher.bev is not None:
        log_probs = decode_rows(teacher.bev.free, teacher.bev.levels, NUM_CLASSES, jnp)
        return BevMap(log_probs, _mask(teacher.bev.valid, x * y).reshape(x, y))
    assert rows is not None
    # Rows that do not count go past the last column, where the scatter drops them.
    column = jnp.where(rows.counts, rows.index // z, x * y)
    values = jnp.concatenate([log_free_from(rows.log_probs, jnp)[:, None], jnp.exp(rows.log_probs[:, :-1])], axis=-1)
    background = jnp.concatenate([log_free_from(rows.background, jnp)[None], jnp.exp(rows.background[:-1])])
    inactive = rows.inactive.reshape(x * y, z).sum(-1)
    # Logarithms add over z, and so do masses: one scatter makes both sums of the column rule.
    sums = (inactive[:, None] * background).at[column].add(values, mode="drop")
    log_probs = column_log_probs(sums[:, 0], sums[:, 1:], jnp)
    return BevMap(log_probs.reshape(x, y, -1), rows.valid.reshape(x, y, z).any(-1))
