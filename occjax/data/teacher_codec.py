"""Ten bytes per teacher distribution: one for how free it is, a nibble per other class.

A row is a distribution over K classes with free last. Its free code is log(p_free / (1 - p_free)) in 255 even steps
over ±14. Each other class has a 4-bit level: its share relative to the row's most likely occupied class is
(level / 15)³, which is close to the spacing that loses least KL and keeps the tail that a temperature of 2 brings out.
"""

import numpy as np

from occjax.column_rule import PROBABILITY_FLOOR

FREE_LOGIT_LIMIT = 14.0
FREE_LOGIT_STEP = 2 * FREE_LOGIT_LIMIT / 255
# Share relative to the row's largest that each level stands for; level 0 stands for "hardly any".
LEVEL_VALUES = np.maximum((np.arange(16) / 15.0) ** 3, 1e-5).astype(np.float32)

_TABLE_SIZE = 1 << 16
# Nearest level in the cube-root domain of a relative share given as a 16-bit integer.
_LEVEL_OF_SHARE = np.rint(15 * np.cbrt(np.arange(_TABLE_SIZE) / (_TABLE_SIZE - 1))).astype(np.uint8)


def level_bytes(num_classes: int) -> int:
    """Bytes that hold the levels of the classes before free."""
    return num_classes // 2


def floored_log_probs(probabilities: np.ndarray) -> np.ndarray:
    """float32 log-probabilities [..., K], floored, then normalised."""
    floored = np.maximum(probabilities, np.float32(PROBABILITY_FLOOR), dtype=np.float32)
    return np.log(floored / floored.sum(-1, keepdims=True))


def encode_rows(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of distributions.

    Args:
      probabilities: float [M, K] non-negative, free last; rows need not sum to exactly 1.

    Returns:
      free code uint8 [M]; levels uint8 [M, K//2], class 2i in the low nibble of byte i and 2i+1 in the high one.
    """
    probabilities = np.asarray(probabilities, np.float32)
    occupied = probabilities[:, :-1]
    free_logit = np.log(np.maximum(probabilities[:, -1], 1e-9)) - np.log(np.maximum(occupied.sum(-1), 1e-9))
    clipped = np.clip(free_logit, -FREE_LOGIT_LIMIT, FREE_LOGIT_LIMIT)
    free = np.rint((clipped + FREE_LOGIT_LIMIT) / FREE_LOGIT_STEP).astype(np.uint8)
    scale = (_TABLE_SIZE - 1) / np.maximum(occupied.max(-1, keepdims=True), 1e-12)
    nibbles = np.zeros((len(probabilities), 2 * level_bytes(probabilities.shape[1])), np.uint8)
    nibbles[:, : occupied.shape[1]] = np.take(_LEVEL_OF_SHARE, (occupied * scale).astype(np.uint16))
    return free, nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


def decode_rows(free: np.ndarray, levels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 log-probabilities [..., K] of codes (free [...], levels [..., K//2]); see encode_rows."""
    nibbles = np.stack([levels & 15, levels >> 4], axis=-1).reshape(*levels.shape[:-1], -1)
    share = LEVEL_VALUES[nibbles[..., : num_classes - 1]]
    p_free = 1 / (1 + np.exp(FREE_LOGIT_LIMIT - free.astype(np.float32) * np.float32(FREE_LOGIT_STEP)))
    occupied = share / share.sum(-1, keepdims=True) * (1 - p_free)[..., None]
    return floored_log_probs(np.concatenate([occupied, p_free[..., None]], axis=-1))


def kl_divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats over the last axis."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)
