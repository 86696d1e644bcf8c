"""A dump scored against ground truth before anyone trains on it: the true pairing has to win, and clearly."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from occjax.classes import FREE
from occjax.label_sets import LabelSet
from occjax.metrics.across_processes import merge
from occjax.metrics.confusion import ConfusionMatrix, mean_over

# The true pairing must beat shuffled ones by this factor, and be beaten by another order by as much before that is
# blamed: keyframes half a second apart look alike.
MARGIN = 1.1
# It must beat what the dump scores turned and flipped by this factor, and a sample is out of place if the truth of
# another one fits it better by as much.
CLEARLY = 1.3
# A change is named as the cause only if it lifts the dump above what turned and flipped ones score by this factor.
NAMED = 1.5
# A score below which a dump is no better than noise, whatever it is compared with.
FLOOR = 0.02

Move = Callable[[np.ndarray], np.ndarray]  # of labels [X, Y, Z]

_ORDER = "order of the samples"
_AXES = "axes flipped or swapped"
_SHIFT = "voxels shifted"
_GRID = "wrong grid"
_CLASSES = "order of the classes"
_NO_OVERLAP = "the dump hardly overlaps the truth"
_REMEDIES = {
    _ORDER: "name the order that the dump was written in with --match, --infos or --splits",
    _AXES: "turn the dump's axes to x, y, z; the --bev-* options turn BEV maps only",
    _SHIFT: "write the dump on the grid that --source-grid names, voxel [0, 0, 0] at its lower corner",
    _GRID: "name the grid that the dump lies on with --source-grid",
    _CLASSES: "write the dump's class axis in that order, or name its free class with --free-id",
    _NO_OVERLAP: "name the class that means free with --free-id, and the array in the files with --dump-3d-key",
}
_REMEDY_OF_MAPS = {
    _AXES: "undo it with --bev-rotate-k, --bev-flip-x and --bev-flip-y",
    _NO_OVERLAP: "name the class that means free with --free-id, and the array in the files with --bev-prob-key",
}


class Score(NamedTuple):
    """SurroundOcc protocol: mean over the classes that count and IoU of occupied voxels, each 0 to 1.

    The protocol counts a class without truth as 1, which hides much on few samples: `present_miou` leaves it out.
    """

    miou: float
    iou: float
    present_miou: float

    @property
    def mean(self) -> float:
        """What pairings are compared by."""
        return (self.present_miou + self.iou) / 2

    def __str__(self) -> str:
        return (
            f"mIoU {100 * self.miou:.2f} ({100 * self.present_miou:.2f} over classes present), IoU {100 * self.iou:.2f}"
        )


class Audit(NamedTuple):
    """What the audit found.

    Attributes:
      samples: number of samples scored.
      true_pairing: score of each dump file against the truth of its own sample.
      shuffled: mean score over pairings with other samples; None with one sample only.
      alternatives: score of the true pairing after each symmetry or shift, by its name; and of other orders.
      problem: why the dump is refused, naming the likely cause; empty = it may be used.
      remedy: what mends a dump of that cause, with the converter's options; empty = as `problem`.
    """

    samples: int
    true_pairing: Score
    shuffled: Score | None
    alternatives: dict[str, Score]
    problem: str
    remedy: str

    def facts(self) -> dict:
        """For the manifest."""
        return {
            "protocol": "SurroundOcc",
            "samples": self.samples,
            "true_pairing": self.true_pairing._asdict(),
            "shuffled": self.shuffled and self.shuffled._asdict(),
        }

    def report(self) -> str:
        """Lines for the screen."""
        lines = [f"audit of {self.samples} samples by the SurroundOcc protocol", f"  true pairing: {self.true_pairing}"]
        lines.append(f"  shuffled:     {self.shuffled or 'not possible with one sample'}")
        best = max(self.alternatives, key=lambda name: self.alternatives[name].mean, default=None)
        if best:
            lines.append(f"  best other:   {self.alternatives[best]} ({best})")
        return "\n".join(lines)


def symmetries() -> dict[str, Move]:
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


def shifts(axes: str = "xyz") -> dict[str, Move]:
    """One voxel along each of the axes, each undoing what its name says was done to the dump."""
    return {
        f"shifted by {step:+d} voxel along {name}": partial(shift, axis=axis, step=-step)
        for axis, name in enumerate(axes)
        for step in (-1, 1)
    }


def shift(labels: UInt8[np.ndarray, "x y z"], axis: int, step: int) -> UInt8[np.ndarray, "x y z"]:
    """Labels moved by `step` voxels along an axis, not 0; what enters is free."""
    out = np.roll(labels, step, axis)
    np.moveaxis(out, axis, 0)[slice(step) if step > 0 else slice(step, None)] = FREE
    return out


def _moves(shape: tuple[int, ...]) -> dict[str, Move]:
    """All moves that leave labels of this shape comparable: flat ones have no z, and only square ones can be turned."""
    along_z = {} if shape[2] == 1 else {"z flipped": lambda v: v[..., ::-1]}
    moves = {**symmetries(), **shifts("xy" if shape[2] == 1 else "xyz"), **along_z}
    # One byte that looks like such labels: a move is a view, so trying it costs nothing.
    probe = np.broadcast_to(np.uint8(0), shape)
    return {name: move for name, move in moves.items() if shape[0] == shape[1] or move(probe).shape == shape}


def confusion(truth: UInt8[np.ndarray, "*s"], prediction: UInt8[np.ndarray, "*s"], labels: LabelSet) -> ConfusionMatrix:
    """One sample's voxels that count."""
    return ConfusionMatrix.empty().update(truth, prediction, labels.counted(truth))


def score(samples: Iterable[ConfusionMatrix], labels: LabelSet) -> Score:
    """Of all these samples together, at least one; 0 where nothing is occupied or present."""
    counts = reduce(merge, samples)
    # Before the mean, because the protocol counts an absent class as 1.
    iou = counts.iou_per_class(without_truth=1.0)
    present = mean_over(np.where(counts.has_truth, iou, np.nan), labels.classes)
    return Score(mean_over(iou, labels.classes), *np.nan_to_num([counts.occupied_iou(), present]).tolist())


def audit(
    predictions: list[np.ndarray],
    truths: list[np.ndarray],
    *,
    labels: LabelSet,
    neighbours: dict[int, list[np.ndarray | None]] | None = None,
    other_grids: dict[str, list[np.ndarray]] | None = None,
) -> Audit:
    """Scores a sample of a dump.

    Args:
      predictions: uint8 [X, Y, Z] classes as dumped.
      truths: uint8 [X, Y, Z] classes of the samples that they were matched with.
      labels: label set of the truths; says which voxels count.
      neighbours: truths of the samples one or more places on in the data set's order, by offset; None where the split
        ends.
      other_grids: truths of the same samples on the grids of other label sets, by the set's name.
    """

    def counted(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Score:
        return score([confusion(truth, prediction, labels) for truth, prediction in pairs], labels)

    count = len(truths)
    # All of them, once: own pairing, shuffled ones and best fits are sums of these.
    pairs = [[confusion(truth, prediction, labels) for truth in truths] for prediction in predictions]
    own = score([pairs[i][i] for i in range(count)], labels)
    single = np.array([[score([counts], labels).mean for counts in row] for row in pairs])
    at_home = np.diag(single)
    displaced = int((single.max(1) > CLEARLY * at_home).sum())
    displaced = displaced if displaced > 1 else 0  # a swap takes two; one alone may be a poor sample
    shuffled, order = None, {}
    if count > 1:
        # Cyclic shifts use every sample as often as the true pairing does, so that the scores compare.
        rounds = [score([pairs[i][(i + k) % count] for i in range(count)], labels) for k in range(1, count)]
        shuffled = Score(*(float(np.mean(part)) for part in zip(*rounds, strict=True)))
        fitting = single.argmax(1)
        if (fitting != np.arange(count)).any():
            best = [pairs[i][j] for i, j in enumerate(fitting)]
            order["each sample with the truth that it fits best"] = score(best, labels)
    # The likeliest wrong order: an index that starts at 1, or one keyframe more at the front.
    for offset, others in (neighbours or {}).items():
        both = [(t, p) for t, p in zip(others, predictions, strict=True) if t is not None]
        if both:
            order[f"order off by {offset:+d}"] = counted(both)
        displaced += sum(
            t is not None and counted([(t, p)]).mean > CLEARLY * float(own_score)
            for t, p, own_score in zip(others, predictions, at_home, strict=True)
        )
    axes = {
        name: counted((t, move(p)) for t, p in zip(truths, predictions, strict=True))
        for name, move in _moves(truths[0].shape).items()
    }
    grids = {
        f"the grid of {name}": counted(zip(others, predictions, strict=True))
        for name, others in (other_grids or {}).items()
    }
    cause, finding = _problem(own, shuffled, displaced, count, order, axes, grids)
    remedies = _REMEDIES | (_REMEDY_OF_MAPS if truths[0].shape[2] == 1 else {})
    problem, remedy = (f"{cause}{finding}", remedies[cause]) if cause else ("", "")
    return Audit(count, own, shuffled, {**order, **axes, **grids}, problem, remedy)


def _problem(
    own: Score,
    shuffled: Score | None,
    displaced: int,
    count: int,
    order: dict[str, Score],
    axes: dict[str, Score],
    grids: dict[str, Score],
) -> tuple[str, str]:
    """Cause, and what was found about it; empty ones where nothing is wrong. The likeliest cause comes first."""
    # What a dump scores that has nothing to do with its truth.
    chance = sorted(axes[name].mean for name in symmetries() if name in axes)
    # The median, because a street may look alike under one symmetry or two.
    chance = chance[len(chance) // 2] if chance else 0.0
    better = {name: found for name, found in {**axes, **grids}.items() if found.mean > own.mean}
    # Keyframes half a second apart may look alike: another order has to win clearly.
    better |= {name: found for name, found in order.items() if found.mean > MARGIN * own.mean}
    better = {name: found for name, found in better.items() if found.mean > max(NAMED * chance, FLOOR)}
    if better:
        name = max(better, key=lambda n: better[n].mean)
        cause = _ORDER if name in order else _AXES if name in axes else _GRID
        if name.startswith("shifted"):
            cause = _SHIFT
        return cause, f": {name} fits better ({better[name]}) than the dump as it is ({own})"
    # Only after the moves: a dump that is merely turned may overlap as little.
    if own.mean < FLOOR:
        return _NO_OVERLAP, f" ({own}), and no symmetry, shift or other order explains it"
    # Occupied in the right places, or the rule before would have ended it.
    if own.present_miou < FLOOR:
        return _CLASSES, (
            f": the right voxels are occupied, by the wrong classes ({own}); the dump must number the classes as "
            "nuScenes' occupancy labels do, 0 others to 16 vegetation, besides free"
        )
    if displaced:
        return _ORDER, (
            f": most of the {count} audited samples are right, but some fit the truth of another one clearly better "
            f"than their own ({own} over all of them)"
        )
    others = ""
    # Last, because it names no cause of its own.
    if own.mean < CLEARLY * chance:
        others = "turned and flipped ones"
    elif shuffled is not None and own.mean < MARGIN * shuffled.mean:
        others = f"shuffled pairings ({shuffled})"
    if others:
        return _ORDER, (
            f": the true pairing ({own}) does not clearly win over {others}; the ids belong to other samples or "
            "another data set order, or the teacher has learnt nothing"
        )
    return "", ""
