"""Rules from a stack of voxel distributions to its BEV cell: the column rule, for teacher and student alike, and the
rule that dumps are written by."""

from typing import Any

Array = Any

# Probabilities are floored here before a logarithm: fp16 dumps cannot tell smaller ones from zero.
PROBABILITY_FLOOR = 1e-6


def column_log_probs(log_free_sum: Array, occupied_mass: Array, xp: Any) -> Array:
    """Log-probabilities of a column from its sums over z.

    A column is free if all of its voxels are: p_free = Π_z p_free(z). What is left is shared among the occupied
    classes by the occupancy-weighted mixture over z, which is Σ_z p_c(z) / Σ_z Σ_c p_c(z).

    Args:
      log_free_sum: [...] Σ_z log p_free(z).
      occupied_mass: [..., K-1] Σ_z p_c(z) of the classes before free.
      xp: numpy or jax.numpy.

    Returns:
      [..., K] log-probabilities with free last, each occupied share floored.
    """
    # Keeps what is left, 1 - p_free, above zero: its logarithm follows.
    log_free = xp.minimum(log_free_sum, -PROBABILITY_FLOOR)
    mass = xp.maximum(occupied_mass, PROBABILITY_FLOOR**2)
    log_share = xp.log(xp.maximum(mass / mass.sum(-1, keepdims=True), PROBABILITY_FLOOR))
    log_occupied = xp.log(-xp.expm1(log_free))
    return xp.concatenate([log_share + log_occupied[..., None], log_free[..., None]], axis=-1)


def log_free_from(log_probs: Array, xp: Any) -> Array:
    """log p_free of voxel log-probabilities [..., K], accurate at both ends.

    Near certainty log-softmax leaves rounding of 1e-7, which a product over z would sum up; the occupied classes
    still hold their full precision there.
    """
    occupied = xp.exp(log_probs[..., :-1]).sum(-1)
    return xp.where(occupied < 0.5, xp.log1p(-xp.minimum(occupied, 0.5)), log_probs[..., -1])


def column_log_probs_from_voxels(log_probs: Array, valid: Array | None, xp: Any) -> Array:
    """Applies the rule to voxel log-probabilities.

    Args:
      log_probs: [..., Z, K] normalised, free last.
      valid: bool [..., Z]; voxels that are not valid count as free. None = all are.
      xp: numpy or jax.numpy.

    Returns:
      [..., K] log-probabilities.
    """
    log_free = log_free_from(log_probs, xp)
    occupied = xp.exp(log_probs[..., :-1])
    if valid is not None:
        log_free = xp.where(valid, log_free, 0.0)
        occupied = xp.where(valid[..., None], occupied, 0.0)
    return column_log_probs(log_free.sum(-1), occupied.sum(-2), xp)


def topmost_distribution(probabilities: Array, xp: Any) -> Array:
    """Distribution of the class seen from above: that of the topmost voxel that is not free, where voxels are drawn.

    B_c = Σ_z P_z[c]·Π_{z'>z} P_{z'}[free] of the occupied classes, and B_free = Π_z P_z[free].

    Args:
      probabilities: [..., Z, K], rows sum to 1, free last, z upward.
      xp: numpy or jax.numpy.

    Returns:
      [..., K], rows sum to 1 as far as those of the voxels do.
    """
    # Free from the top down to each voxel, itself included.
    free_to = xp.flip(xp.cumprod(xp.flip(probabilities[..., -1], axis=-1), axis=-1), axis=-1)  # [..., Z]
    free_above = xp.concatenate([free_to[..., 1:], xp.ones_like(free_to[..., :1])], axis=-1)
    seen = (probabilities[..., :-1] * free_above[..., None]).sum(-2)
    return xp.concatenate([seen, free_to[..., :1]], axis=-1)
