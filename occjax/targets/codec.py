"""Ten bytes per teacher distribution: one for how free it is, a nibble per other class, and one that sets them right.

A row is a distribution over K classes with free last. Its free code is log(p_free / (1 - p_free)) in 255 even steps
over ±14. Every other class has a 4-bit level: its share relative to the row's most likely occupied class, in steps that
widen from 0.3 nats at the top to 0.86 at the bottom, which keeps the tail that a temperature of 2 brings out. One more
nibble scales all shares below the top level so that the mass of the top is right: a flat tail of 16 equal classes would
otherwise repeat one rounding error 16 times.
"""

from typing import Any

import numpy as np

from occjax.targets.column_rule import PROBABILITY_FLOOR

Array = Any

# Beyond it p is within 1e-6 of 0 or 1, where probabilities are floored anyway.
FREE_LOGIT_LIMIT = 14.0
FREE_LOGIT_STEP = 2 * FREE_LOGIT_LIMIT / 255
# -log of the share that stands n levels below the top is n * (FIRST_STEP + (n - 1) * STEP_GROWTH / 2).
# A nibble: 17 occupied classes and the tail's scale are 9 bytes.
TOP_LEVEL = 15
FIRST_STEP, STEP_GROWTH = 0.3, 0.043
LOWEST_SHARE = 1e-5  # of level 0: hardly any
TAIL_LIMIT = 0.45  # log of the largest scale of the shares below the top level

_BELOW_TOP = TOP_LEVEL - np.arange(TOP_LEVEL + 1)
LEVEL_SHARES = np.exp(-_BELOW_TOP * (FIRST_STEP + (_BELOW_TOP - 1) * STEP_GROWTH / 2)).astype(np.float32)
LEVEL_SHARES[0] = LOWEST_SHARE

_TAIL_SHARES = np.where(np.arange(TOP_LEVEL + 1) == TOP_LEVEL, np.float32(0), LEVEL_SHARES)

_TABLE_SIZE = 1 << 16
_BORDERS = np.sqrt(LEVEL_SHARES[1:] * LEVEL_SHARES[:-1])
# Level 0 stands for all that is less, not for a share of its own: the mean with it would lie far too low.
_BORDERS[0] = LEVEL_SHARES[1] / 3
# Nearest level, by logarithm, of a relative share given as a 16-bit integer.
_LEVEL_OF_SHARE = np.searchsorted(_BORDERS, np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1)).astype(np.uint8)


def level_bytes(num_classes: int) -> int:
    """Bytes that hold the levels of the classes before free, and the tail's scale."""
    return (num_classes - 1) // 2 + 1


def floored_log_probs(probabilities: np.ndarray) -> np.ndarray:
    """float32 log-probabilities [..., K], floored, then normalised."""
    floored = np.maximum(probabilities, np.float32(PROBABILITY_FLOOR), dtype=np.float32)
    return np.log(floored / floored.sum(-1, keepdims=True))


def encode_rows(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of distributions.

    Args:
      probabilities: float [M, K] non-negative, free last; rows need not sum to exactly 1.

    Returns:
      free code uint8 [M]; levels uint8 [M, level_bytes(K)]: nibble c, the low half of a byte first, is the level of
      class c, nibble K - 1 the tail's scale.
    """
    # Class by class: sums over a short last axis are several times as slow.
    planes = np.ascontiguousarray(np.asarray(probabilities, np.float32).T)
    occupied = planes[:-1]
    num_occupied, count = occupied.shape
    free_logit = np.log(np.maximum(planes[-1], 1e-9)) - np.log(np.maximum(occupied.sum(0), 1e-9))
    clipped = np.clip(free_logit, -FREE_LOGIT_LIMIT, FREE_LOGIT_LIMIT)
    # Of the logit, not of p: what matters is how far p is from 0 and 1, where most voxels are.
    free = np.rint((clipped + FREE_LOGIT_LIMIT) / FREE_LOGIT_STEP).astype(np.uint8)

    scale = (_TABLE_SIZE - 1) / np.maximum(occupied.max(0), np.float32(1e-12))
    share = occupied * scale  # 65535 = the largest of the row
    nibbles = np.zeros((2 * level_bytes(num_occupied + 1), count), np.uint8)
    nibbles[:num_occupied] = np.take(_LEVEL_OF_SHARE, share.astype(np.uint16), mode="clip")
    top_mass, top_count, coded_tail = np.zeros((3, count), np.float32)
    for one_share, level in zip(share, nibbles[:num_occupied], strict=True):
        is_top = level == TOP_LEVEL
        top_mass += one_share * is_top
        top_count += is_top
        coded_tail += np.take(_TAIL_SHARES, level, mode="clip")
    wanted_tail = (share.sum(0) - top_mass) * top_count / np.maximum(top_mass, 1e-9)
    log_scale = np.log(np.maximum(wanted_tail, 1e-9) / np.maximum(coded_tail, 1e-9))
    nibbles[num_occupied] = np.rint((np.clip(log_scale / TAIL_LIMIT, -1, 1) + 1) * 7.5).astype(np.uint8)
    return free, np.ascontiguousarray((nibbles[0::2] | (nibbles[1::2] << 4)).T)


def decode_rows(free: Array, levels: Array, num_classes: int, xp: Any = np) -> Array:
    """Log-probabilities of codes; see `encode_rows`.

    Args:
      free: uint8 [...] free codes.
      levels: uint8 [..., level_bytes(K)].
      num_classes: K.
      xp: numpy or jax.numpy.

    Returns:
      float32 [..., K], floored, free last.
    """
    nibbles = xp.stack([levels & 15, levels >> 4], axis=-1).reshape(*levels.shape[:-1], -1).astype(xp.float32)
    tail_scale = xp.exp((nibbles[..., num_classes - 1, None] / 7.5 - 1) * TAIL_LIMIT)
    nibbles = nibbles[..., : num_classes - 1]
    # Worked out and not looked up in LEVEL_SHARES: an accelerator computes faster than it gathers.
    below = TOP_LEVEL - nibbles
    share = xp.exp(-below * (FIRST_STEP + (below - 1) * (STEP_GROWTH / 2)))
    share = xp.where(nibbles == 0, xp.float32(LOWEST_SHARE), share)
    share = xp.where(below == 0, xp.float32(1), share * tail_scale)
    p_free = 1 / (1 + xp.exp(FREE_LOGIT_LIMIT - free.astype(xp.float32) * FREE_LOGIT_STEP))[..., None]
    occupied = share / share.sum(-1, keepdims=True) * (1 - p_free)
    floored = xp.maximum(xp.concatenate([occupied, p_free], axis=-1), PROBABILITY_FLOOR)
    return xp.log(floored / floored.sum(-1, keepdims=True))


def kl_divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray | np.floating:
    """KL(p || q) in nats over the last axis."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)
