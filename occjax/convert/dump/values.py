"""Numbers of a dump decided on: where the class axis is, whether they are probabilities or logits, or neither."""

import numpy as np
from jaxtyping import Float, Num, Shaped

from occjax.convert.dump.arrays import DumpError
from occjax.targets.codec import floored_log_probs
from occjax.targets.files import SparseTeacher, prune, sparse_from_probabilities

PROBABILITIES, LOGITS, MAX_OVER_Z = "probabilities", "logits", "max_over_z"
# fp16 rounds each of 18 probabilities by up to 2.4e-4 of its size.
SUM_TOLERANCE = 5e-3
# Probabilities that were computed as differences may end a little below zero.
NEGATIVE_TOLERANCE = 1e-3
# fp16 numbers as integers, which compare several times as fast; both order alike where they are positive.
_ONE, _NEARLY_FREE, _NEARLY_NOTHING = (int(np.float16(v).view(np.uint16)) for v in (1.002, 0.9995, 2e-4))
_INFINITY = 0x7C00
# Voxels at once: their float32 copies stay in a processor's cache.
_CHUNK = 1 << 15
# float32 of each fp16 bit pattern: five times as fast as numpy's conversion.
_HALF_VALUES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def class_first(array: np.ndarray, places: tuple[int, ...], num_classes: int, free_id: int) -> np.ndarray:
    """Class scores as contiguous [K, N] with free last, from any layout that dump scripts use.

    Args:
      array: [K, *places], [*places, K], [K, N] or [N, K], any number of leading ones; or integer [*places] of hard
        labels.
      places: (X, Y, Z) or (X, Y).
      num_classes: K.
      free_id: class that means free; the others keep their order.

    Raises:
      DumpError: another shape; the message lists the accepted ones.
    """
    count = int(np.prod(places))
    planes = None
    labels = _squeezed(array, len(places))
    if array.dtype.kind in "iu" and labels.shape == places:
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise DumpError(f"hard labels must lie in 0 to {num_classes - 1}, found {labels.min()} to {labels.max()}")
        # One-hot, so that a hard label is a teacher that is sure.
        planes = (labels.reshape(-1) == np.arange(num_classes)[:, None]).astype(np.float16)
    for rank in (len(places) + 1, 2):
        squeezed = _squeezed(array, rank)
        if planes is None and squeezed.shape in ((num_classes, *places), (num_classes, count)):
            planes = squeezed.reshape(num_classes, count)
        elif planes is None and squeezed.shape in ((*places, num_classes), (count, num_classes)):
            planes = squeezed.reshape(count, num_classes).T
    if planes is None:
        sizes = ", ".join(map(str, places))
        raise DumpError(
            f"shape {array.shape} is none of ({num_classes}, {sizes}), ({sizes}, {num_classes}), "
            f"({num_classes}, {count}) or ({count}, {num_classes}), leading ones aside; check --num-classes, "
            "--spatial-shape and the key"
        )
    # Integer scores are quantised logits of somebody's own.
    if planes.dtype.kind != "f":
        planes = planes.astype(np.float32)
    if free_id != num_classes - 1:
        planes = planes[[c for c in range(num_classes) if c != free_id] + [free_id]]
    return np.ascontiguousarray(planes)


def _squeezed(array: Shaped[np.ndarray, "..."], rank: int) -> Shaped[np.ndarray, "..."]:
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array


def _require_finite(planes: Num[np.ndarray, "k n"]) -> None:
    if planes.dtype == np.float16:
        # Exponent bits all set. Per plane, so that it stays in the cache.
        bad = sum(int(((plane.view(np.uint16) & 0x7FFF) >= _INFINITY).sum()) for plane in planes)
    else:
        bad = int((~np.isfinite(planes)).sum())
    if bad:
        raise DumpError(f"{bad} of {planes.size} values are NaN or infinite; dump this sample again")


def voxel_scores(planes: np.ndarray, kind: str = "") -> tuple[SparseTeacher, str]:
    """Sparse probabilities of voxel scores [K, N], and whether they were PROBABILITIES or LOGITS.

    Probabilities are recognised by their numbers: none negative beyond rounding, every voxel summing to 1 within fp16.
    Only voxels that are not plainly free are looked at one by one. `kind` LOGITS, where whoever wrote the scores says
    so, is not asked of the numbers: logits need not be negative anywhere.

    Raises:
      DumpError: NaN, infinities, or numbers that are neither.
    """
    if kind == LOGITS:
        _require_finite(planes)
        return _sparse_from_logits(planes), LOGITS
    # As integers, fp16 patterns above that of 1 are larger, negative (the sign bit is the highest) or not finite.
    if planes.dtype != np.float16 or planes.view(np.uint16).max() > _ONE:
        _require_finite(planes)
        if _are_logits(planes):
            return _sparse_from_logits(planes), LOGITS
        if float(planes.max()) > 1 + SUM_TOLERANCE:
            raise DumpError(f"{_neither(planes)}: the largest value is {float(planes.max()):g}")
        planes = np.where(planes > 0, planes, 0).astype(np.float16)  # and not maximum(), which may keep -0
    bits = planes.view(np.uint16)
    # Nine in ten voxels are plainly free: found by two integers each, and never looked at again.
    likeliest = np.maximum.reduce(bits[:-1], axis=0)
    is_active = (bits[-1] < _NEARLY_FREE) | (likeliest > _NEARLY_NOTHING)
    index = np.flatnonzero(is_active)
    rows = np.empty((len(planes), len(index)), np.float32)
    # Class by class: gathering whole columns jumps through memory.
    for row, plane in zip(rows, bits, strict=True):
        np.take(_HALF_VALUES, np.take(plane, index, mode="clip"), out=row, mode="clip")
    total = rows.sum(0)
    off = np.abs(total - 1) > SUM_TOLERANCE
    if off.any():
        raise DumpError(f"{_neither(planes)}: {int(off.sum())} voxels sum to {total.min():g} to {total.max():g}")
    rows /= total
    # Every 64th of the rest gives their mean: all of them are free to within 5e-4.
    rest = planes[:, ::64][:, ~is_active[::64]].astype(np.float32)
    background = rest.mean(1) if rest.size else np.eye(len(planes), dtype=np.float32)[-1]
    return prune(SparseTeacher(index.astype(np.int32), rows.T, background), planes.shape[1]), PROBABILITIES


def _neither(planes: Num[np.ndarray, "k n"]) -> str:
    return (
        f"the {len(planes)} class values are neither probabilities (not negative, summing to 1) nor logits (some "
        "negative)"
    )


def _are_logits(planes: Num[np.ndarray, "k n"]) -> bool:
    """True of scores with negative values that are more than rounding.

    Raises:
      DumpError: such values, yet every place sums to 1: no logits do that.
    """
    # Log-probabilities count as logits too: the softmax of them is what they were.
    lowest = float(planes.min())
    if lowest >= -NEGATIVE_TOLERANCE:
        return False
    # One place in 64 tells as much as all of them do.
    total = planes[:, ::64].astype(np.float32).sum(0)
    if np.abs(total - 1).max() <= SUM_TOLERANCE:
        raise DumpError(f"{_neither(planes)}: they sum to 1, but the least is {lowest:g}")
    return True


def _sparse_from_logits(planes: Float[np.ndarray, "k n"]) -> SparseTeacher:
    return sparse_from_probabilities(softmax(planes.astype(np.float32)).T)


def softmax(logits: Float[np.ndarray, "k *n"]) -> Float[np.ndarray, "k *n"]:
    """Probabilities of logits, over axis 0."""
    shifted = np.exp(logits - logits.max(0))
    return shifted / shifted.sum(0)


def dense_log_probs(planes: np.ndarray, kind: str) -> np.ndarray:
    """float16 [N, K] floored log-probabilities of scores [K, N]."""
    out = np.empty(planes.shape[::-1], np.float16)
    for start in range(0, planes.shape[1], _CHUNK):
        part = planes[:, start : start + _CHUNK].astype(np.float32)
        probs = softmax(part) if kind == LOGITS else np.maximum(part, 0)
        out[start : start + _CHUNK] = floored_log_probs(probs.T)
    return out


def bev_probabilities(planes: np.ndarray) -> tuple[np.ndarray, str]:
    """float32 [N, K] probabilities of BEV scores [K, N], and their kind.

    The dump script's own maps are the largest voxel value per class and column (MAX_OVER_Z), not a distribution: every
    column that has a free voxel looks free. They are recognised by columns that sum to 1 or more with a free channel
    that is high nearly everywhere, and the occupied classes are then read as if each had one voxel:
    p_free = Π_c (1 - max_z p_c), the rest in proportion to the maxima.

    Raises:
      DumpError: NaN, infinities, or numbers that are none of these.
    """
    _require_finite(planes)
    values = planes.astype(np.float32)
    if _are_logits(values):
        return np.ascontiguousarray(softmax(values).T), LOGITS
    values = np.maximum(values, 0)
    total = values.sum(0)
    if values.max() <= 1 + SUM_TOLERANCE and np.abs(total - 1).max() <= SUM_TOLERANCE:
        return np.ascontiguousarray((values / total).T), PROBABILITIES
    has_free_voxel = float((values[-1] > 0.5).mean())
    if values.max() > 1 + SUM_TOLERANCE or total.min() < 1 - SUM_TOLERANCE or has_free_voxel < 0.9:
        raise DumpError(f"{_neither(planes)}: cells sum to {total.min():g} to {total.max():g}")
    occupied = np.clip(values[:-1], 0, 1)
    p_free = np.prod(1 - occupied, axis=0)
    share = occupied / np.maximum(occupied.sum(0), 1e-9)
    return np.concatenate([share * (1 - p_free), p_free[None]]).T.copy(), MAX_OVER_Z
