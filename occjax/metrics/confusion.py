"""Confusion matrix: counts of (truth, prediction) pairs over a split, of which every published mean IoU is made."""

import dataclasses

import jax
import numpy as np

from occjax.classes import FREE, NUM_CLASSES
from occjax.errors import UserError
from occjax.grid import VoxelGrid


class ScoringError(UserError):
    """Prediction and truth cannot be compared."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """A mergeable state: `empty`, `update`, then read off what is wanted.

    Counted in numpy: a sample of 200×200×16 voxels takes 4 ms, and the class grid has to reach the host anyway.

    Attributes:
      counts: int64 [K, K], rows truth, columns prediction.
    """

    counts: np.ndarray

    @classmethod
    def empty(cls, num_classes: int = NUM_CLASSES) -> "ConfusionMatrix":
        """Nothing counted yet."""
        # 64 bits: the validation split has 3.9 billion voxels, more than a signed 32-bit count holds.
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def update(self, truth: np.ndarray, prediction: np.ndarray, kept: np.ndarray) -> "ConfusionMatrix":
        """Adds the voxels where `kept` is true.

        Args:
          truth: integer classes [...], any shape; other values only where not kept.
          prediction: integer classes 0..K-1 [...], same shape.
          kept: bool [...], same shape.

        Raises:
          ScoringError: shapes differ or a prediction is no class.
        """
        require_classes(truth=truth, prediction=prediction)
        num_classes = len(self.counts)
        if not truth.shape == prediction.shape == kept.shape:
            raise ScoringError(
                f"truth {truth.shape}, prediction {prediction.shape} and mask {kept.shape} must have one shape; "
                "predict on the grid of the labels"
            )
        if prediction.size and not 0 <= prediction.min() <= prediction.max() < num_classes:
            raise ScoringError(
                f"predicted classes must lie in 0 to {num_classes - 1}, found {prediction.min()}-{prediction.max()}; "
                "store the argmax over the classes"
            )
        # A pair as one number below 18²: in two bytes, a quarter of numpy's default to move, and wide enough that a
        # truth of 255 does not wrap into another pair before it is left out.
        pairs = (truth.astype(np.uint16) * np.uint16(num_classes) + prediction.astype(np.uint16))[kept]
        counted = np.bincount(pairs, minlength=num_classes**2)
        # `bincount` grows past the last pair only where a kept truth is no class.
        if len(counted) > num_classes**2:
            raise ScoringError(f"kept voxels must have truth in 0 to {num_classes - 1}, found {truth[kept].max()}")
        return ConfusionMatrix(self.counts + counted.reshape(self.counts.shape))

    @property
    def hits(self) -> np.ndarray:
        """int64 [K] voxels of each class predicted as such."""
        return np.diag(self.counts)

    @property
    def has_truth(self) -> np.ndarray:
        """bool [K] classes that truth has."""
        return self.counts.sum(1) > 0

    def iou_per_class(self, *, without_truth: float | None = None) -> np.ndarray:
        """float64 [K]; NaN for a class that neither truth nor prediction has.

        Args:
          without_truth: what stands for every class without truth instead, predicted or not.
        """
        iou = ratio(self.hits, self.counts.sum(0) + self.counts.sum(1) - self.hits)
        return iou if without_truth is None else np.where(self.has_truth, iou, without_truth)

    def occupied_iou(self) -> float:
        """IoU of "not free"; NaN if nothing is occupied in either."""
        occupied = np.arange(len(self.counts)) != FREE
        # Confusions between occupied classes are hits here: geometry alone is scored.
        both = self.counts[np.ix_(occupied, occupied)].sum()
        either = self.counts.sum() - self.counts[FREE, FREE]
        return float(ratio(both, either))


def require_shape(grid: VoxelGrid, **arrays: np.ndarray) -> None:
    """Raises ScoringError, naming every array that has not the shape of the grid."""
    wrong = [f"{name} {array.shape}" for name, array in arrays.items() if array.shape != grid.shape]
    if wrong:
        raise ScoringError(
            f"expected shape {grid.shape} ({grid}), found {', '.join(wrong)}; store [X, Y, Z] classes on that grid"
        )


def require_classes(**arrays: np.ndarray) -> None:
    """Raises ScoringError, naming every array that holds no integers."""
    wrong = [f"{name} of {array.dtype}" for name, array in arrays.items() if array.dtype.kind not in "iu"]
    if wrong:
        raise ScoringError(f"classes must be integers, found {', '.join(wrong)}; score the argmax over the classes")


def ratio(part: np.ndarray | np.number, whole: np.ndarray | np.number) -> np.ndarray:
    """part / whole of [...] in float64, NaN where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def mean_over(values: np.ndarray, classes) -> float:
    """Mean of `values[classes]`, of values [K], without NaN; NaN if nothing is left."""
    # Not np.nanmean, which warns where nothing is left.
    chosen = values[list(classes)]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if len(chosen) else float("nan")
