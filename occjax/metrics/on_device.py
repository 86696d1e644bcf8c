"""Summary of dense logits for evaluation, computed where they are: 11.5 million numbers per sample never move."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from occjax.classes import FREE
from occjax.label_sets import LabelSet
from occjax.losses.occupancy import counted_voxels
from occjax.metrics.calibration import FINE_BINS, OWN
from occjax.targets.rows import voxel_rows
from occjax.types import Batch, TeacherTargets


class TeacherComparison(NamedTuple):
    """The teacher's answer and how far the student's distribution is from it.

    Attributes:
      semantics: the teacher's most probable class.
      known: voxels that the teacher knows.
      kl_sum: Σ KL(teacher ‖ student), nats: over known voxels that the teacher calls occupied, and free.
      probability: of `semantics`, as `VoxelSummary` has it.
    """

    semantics: UInt8[Array, "b x y z"]
    known: Bool[Array, "b x y z"]
    kl_sum: Float[Array, "b 2"]
    probability: UInt8[Array, "b x y z"]


class VoxelSummary(NamedTuple):
    """One batch of predictions as evaluation takes them.

    Attributes:
      semantics: most probable class.
      calibration: as `calibration_counts` gives it; None without labels.
      teacher: comparison with the teacher, or None without one.
      probability: of `semantics` in 255ths, to be looked at; None where nobody computed it.
    """

    semantics: UInt8[Array, "b x y z"]
    calibration: Int[Array, "b t 2 bins"] | None
    teacher: TeacherComparison | None
    probability: UInt8[Array, "b x y z"] | None = None


def summarise(
    voxel_logits: Float[Array, "b x y z k"],
    batch: Batch,
    *,
    label_set: LabelSet,
    use_camera_mask: bool,
    temperatures: tuple[float, ...] = OWN,
) -> VoxelSummary:
    """Most probable classes, calibration on the voxels that count, and agreement with the teacher.

    Args:
      voxel_logits: logits or log-probabilities.
      batch: labels and teacher may be None.
      label_set: of the batch; says which voxels count.
      use_camera_mask: calibration on what the cameras see only (Occ3D).
      temperatures: at which calibration is looked at; all else is the network's own.
    """
    log_probs = jax.nn.log_softmax(voxel_logits.astype(jnp.float32))
    calibration = teacher = None
    if batch.labels is not None:
        counted = counted_voxels(batch.labels, batch.is_valid, label_set=label_set, use_camera_mask=use_camera_mask)
        calibration = calibration_counts(log_probs, batch.labels.semantics, counted, temperatures)
    if batch.teacher is not None and batch.teacher.voxels is not None:
        # One sample after the other: a dense teacher is as large as the logits.
        teacher = jax.lax.map(lambda pair: compare_with_teacher(*pair), (log_probs, batch.teacher))
    semantics = jnp.argmax(log_probs, axis=-1).astype(jnp.uint8)
    return VoxelSummary(semantics, calibration, teacher, largest_probability(log_probs))


def largest_probability(log_probs: Float[Array, "*v k"]) -> UInt8[Array, "*v"]:
    """Probability of the most probable class in 255ths, rounded."""
    return jnp.round(255 * jnp.exp(jnp.max(log_probs, axis=-1))).astype(jnp.uint8)


def calibration_counts(
    log_probs: Float[Array, "b x y z k"],
    truth: UInt8[Array, "b x y z"],
    counted: Bool[Array, "b x y z"],
    temperatures: tuple[float, ...],
) -> Int[Array, "b t 2 bins"]:
    """Voxels that count by their probability of "not free", at each temperature; see `occupancy_histogram`."""

    def of_sample(sample: tuple[Array, Array, Array], temperature: Float[Array, ""]) -> Int[Array, "2 bins"]:
        log_probs, truth, counted = sample
        scaled = log_probs / temperature
        # Summed over what is not free: 1 - p(free) would cancel where p(free) is nearly 1, which is nearly everywhere.
        occupied = jax.nn.logsumexp(scaled[..., :FREE], axis=-1) - jax.nn.logsumexp(scaled, axis=-1)
        return occupancy_histogram(jnp.exp(occupied), truth != FREE, counted)

    # One temperature and one sample after the other: the scaled logits are as large as the logits.
    tried = jnp.asarray(temperatures, jnp.float32)
    samples = (log_probs, truth, counted)
    return jax.lax.map(lambda sample: jax.lax.map(lambda t: of_sample(sample, t), tried), samples)


def occupancy_histogram(
    probability: Float[Array, "*v"], is_occupied: Bool[Array, "*v"], counted: Bool[Array, "*v"]
) -> Int[Array, "2 bins"]:
    """Voxels that count by predicted probability of "not free": all of them, and those occupied in truth."""
    # A probability of exactly 1 belongs to the last bin.
    fine = jnp.clip((probability * FINE_BINS).astype(jnp.int32), 0, FINE_BINS - 1)
    histogram = jnp.zeros((2, FINE_BINS), jnp.int32)
    return (
        histogram.at[0, fine].add(counted.astype(jnp.int32)).at[1, fine].add((counted & is_occupied).astype(jnp.int32))
    )


def dense_teacher(
    teacher: TeacherTargets, shape: tuple[int, int, int]
) -> tuple[Float[Array, "x y z k"], Bool[Array, "x y z"]]:
    """Log-probabilities of one sample's teacher in every voxel, and where it knows; for evaluation only."""
    num_voxels = shape[0] * shape[1] * shape[2]
    assert teacher.voxels is not None
    rows = voxel_rows(teacher.voxels, num_voxels)
    dense = jnp.broadcast_to(rows.background, (num_voxels, rows.background.shape[-1]))
    # Rows that fill up the fixed length point behind the last voxel and are dropped.
    dense = dense.at[rows.index].set(rows.log_probs, mode="drop")
    return dense.reshape(*shape, -1), rows.valid.reshape(shape)


def compare_with_teacher(log_probs: Float[Array, "x y z k"], teacher: TeacherTargets) -> TeacherComparison:
    """Comparison of one sample (no batch axis); `teacher` lies on the same grid."""
    x, y, z, _ = log_probs.shape
    dense, known = dense_teacher(teacher, (x, y, z))
    kl = jnp.sum(jnp.exp(dense) * (dense - log_probs), axis=-1)
    semantics = jnp.argmax(dense, axis=-1).astype(jnp.uint8)
    is_free = semantics == FREE
    kl_sum = [jnp.sum(jnp.where(known & which, kl, 0)) for which in (~is_free, is_free)]
    return TeacherComparison(semantics, known, jnp.stack(kl_sum), largest_probability(dense))
