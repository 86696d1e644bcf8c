"""A dump scored against ground truth before anyone trains on it: the true pairing has to win, and clearly."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from occjax.classes import FREE, NUM_CLASSES, OTHERS

# The true pairing must beat shuffled pairings by this factor.
MARGIN = 1.1
# mIoU and IoU below which a dump is no better than noise, whatever it is compared with.
FLOOR = 0.02


class Score(NamedTuple):
    """SurroundOcc protocol: mean over classes 1..16 and IoU of occupied voxels, each 0 to 1."""

    miou: float
    iou: float

    @property
    def mean(self) -> float:
        return (self.miou + self.iou) / 2

    def __str__(self) -> str:
        return f"mIoU {100 * self.miou:.2f}, IoU {100 * self.iou:.2f}"


class Audit(NamedTuple):
    """What the audit found.

    Attributes:
      samples: number of samples scored.
      true_pairing: score of each dump file against the truth of its own sample.
      shuffled: mean score over pairings with other samples; None with one sample only.
      alternatives: score of the true pairing after each symmetry or shift, by its name; and of other orders.
      problem: why the dump is refused, naming the likely cause; empty = it may be used.
    """

    samples: int
    true_pairing: Score
    shuffled: Score | None
    alternatives: dict[str, Score]
    problem: str

    def report(self) -> str:
        """Lines for the screen."""
        lines = [f"audit of {self.samples} samples by the SurroundOcc protocol", f"  true pairing: {self.true_pairing}"]
        lines.append(f"  shuffled:     {self.shuffled or 'not possible with one sample'}")
        best = max(self.alternatives, key=lambda name: self.alternatives[name].mean, default=None)
        if best:
            lines.append(f"  best other:   {self.alternatives[best]} ({best})")
        return "\n".join(lines)


def symmetries() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The seven changes of the x and y axes besides none, each undoing what its name says was done to the dump."""
    return {
        "x flipped": lambda v: v[::-1],
        "y flipped": lambda v: v[:, ::-1],
        "x and y flipped (turned by 180°)": lambda v: v[::-1, ::-1],
        "x and y swapped": lambda v: v.swapaxes(0, 1),
        "turned by 90° (x towards y)": lambda v: np.rot90(v, -1),
        "turned by 270° (x towards y)": lambda v: np.rot90(v, 1),
        "x and y swapped and both flipped": lambda v: v.swapaxes(0, 1)[::-1, ::-1],
    }


def shifts() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """One voxel along each axis, each undoing what its name says was done to the dump."""

    def moved(axis: int, step: int):
        return lambda v: shift(v, axis, -step)

    return {
        f"shifted by {step:+d} voxel along {name}": moved(axis, step)
        for axis, name in enumerate("xyz")
        for step in (-1, 1)
    }


def shift(labels: np.ndarray, axis: int, step: int) -> np.ndarray:
    """Labels moved by `step` voxels along an axis; what enters is free."""
    out = np.full_like(labels, FREE)
    if abs(step) < labels.shape[axis]:
        target, source = [slice(None)] * labels.ndim, [slice(None)] * labels.ndim
        target[axis] = slice(max(step, 0), labels.shape[axis] + min(step, 0))
        source[axis] = slice(max(-step, 0), labels.shape[axis] + min(-step, 0))
        out[tuple(target)] = labels[tuple(source)]
    return out


def confusion(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """int64 [K, K] counts (rows truth) without voxels of truth 0 or of no class."""
    kept = (truth != OTHERS) & (truth <= FREE)
    pairs = (truth.astype(np.uint16) * np.uint16(NUM_CLASSES) + prediction)[kept]
    return np.bincount(pairs, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)


def score(counts: np.ndarray) -> Score:
    """SurroundOcc mIoU and IoU of counts: a class without truth has IoU 1."""
    hits, seen, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    union = seen + predicted - hits
    iou = np.where(seen > 0, hits / np.maximum(union, 1), 1.0)[1:FREE]
    occupied = counts[:FREE, :FREE].sum()
    either = counts.sum() - counts[FREE, FREE]
    return Score(float(iou.mean()), float(occupied / max(either, 1)))


def audit(
    predictions: list[np.ndarray],
    truths: list[np.ndarray],
    *,
    neighbours: dict[int, list[np.ndarray | None]] | None = None,
    other_grid: list[np.ndarray] | None = None,
) -> Audit:
    """Scores a sample of a dump.

    Args:
      predictions: uint8 [X, Y, Z] classes as dumped.
      truths: uint8 [X, Y, Z] classes of the samples that they were matched with.
      neighbours: truths of the samples one or more places on in the data set's order, by offset; None where the split
        ends.
      other_grid: truths of the same samples from the other label set, on its own grid.
    """
    own = score(sum(confusion(t, p) for t, p in zip(truths, predictions, strict=True)))
    pairs = {
        (i, j): confusion(truths[j], predictions[i])
        for i in range(len(predictions))
        for j in range(len(truths))
        if i != j
    }
    shuffled = None
    order: dict[str, Score] = {}
    if pairs:
        rounds = [
            score(sum(pairs[i, (i + k) % len(truths)] for i in range(len(truths)))) for k in range(1, len(truths))
        ]
        shuffled = Score(float(np.mean([r.miou for r in rounds])), float(np.mean([r.iou for r in rounds])))
        best = max(range(len(rounds)), key=lambda k: rounds[k].mean)
        order[f"another order of the samples (each {best + 1} on in the audited ones)"] = rounds[best]
    for offset, others in (neighbours or {}).items():
        both = [(t, p) for t, p in zip(others, predictions, strict=True) if t is not None]
        if both:
            order[f"order off by {offset:+d}"] = score(sum(confusion(t, p) for t, p in both))
    moves = {**symmetries(), **(shifts() if truths[0].shape[2] > 1 else _flat_shifts())}
    if truths[0].shape[0] != truths[0].shape[1]:
        moves = {name: move for name, move in moves.items() if move(truths[0]).shape == truths[0].shape}
    axes = {
        name: score(sum(confusion(t, move(p)) for t, p in zip(truths, predictions, strict=True)))
        for name, move in moves.items()
    }
    grids = {}
    if other_grid:
        grids["the other label set's grid"] = score(
            sum(confusion(t, p) for t, p in zip(other_grid, predictions, strict=True))
        )
    return Audit(len(truths), own, shuffled, {**order, **axes, **grids}, _problem(own, shuffled, order, axes, grids))


def _flat_shifts() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    return {name: move for name, move in shifts().items() if not name.endswith("z")}


def _problem(
    own: Score, shuffled: Score | None, order: dict[str, Score], axes: dict[str, Score], grids: dict[str, Score]
) -> str:
    better = {name: found for name, found in {**order, **axes, **grids}.items() if found.mean > own.mean}
    if better:
        name = max(better, key=lambda n: better[n].mean)
        cause = "order of the samples" if name in order else "axes flipped or swapped" if name in axes else "wrong grid"
        if name.startswith("shifted"):
            cause = "voxels shifted"
        return f"{cause}: {name} fits better ({better[name]}) than the dump as it is ({own})"
    if own.mean < FLOOR:
        return f"the dump hardly overlaps the truth ({own}), and no symmetry, shift or other order explains it"
    if shuffled is not None and own.mean < MARGIN * shuffled.mean:
        return (
            f"order of the samples: the true pairing ({own}) does not clearly win over shuffled pairings ({shuffled}); "
            "the ids belong to another data set order, or the teacher has learnt nothing"
        )
    return ""
