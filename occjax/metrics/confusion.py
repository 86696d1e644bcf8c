"""Counts of (truth, prediction) pairs over a split: what every published mean IoU is computed from."""

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
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def update(self, truth: np.ndarray, prediction: np.ndarray, kept: np.ndarray) -> "ConfusionMatrix":
        """Adds the voxels where `kept` is true.

        Args:
          truth: integer classes, any shape; other values only where not kept.
          prediction: integer classes 0..K-1, same shape.
          kept: bool, same shape.

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
        pairs = (truth.astype(np.uint16) * np.uint16(num_classes) + prediction.astype(np.uint16))[kept]
        counted = np.bincount(pairs, minlength=num_classes**2)
        if len(counted) > num_classes**2:
            raise ScoringError(f"kept voxels must have truth in 0 to {num_classes - 1}, found {truth[kept].max()}")
        return ConfusionMatrix(self.counts + counted.reshape(self.counts.shape))

    @property
    def hits(self) -> np.ndarray:
        """int64 [K] voxels of each class predicted as such."""
        return np.diag(self.counts)

    @property
    def unions(self) -> np.ndarray:
        """int64 [K] voxels that truth or prediction calls the class."""
        return self.counts.sum(0) + self.counts.sum(1) - self.hits

    @property
    def has_truth(self) -> np.ndarray:
        """bool [K] classes that truth has."""
        return self.counts.sum(1) > 0

    def iou_per_class(self) -> np.ndarray:
        """float64 [K]; NaN for a class that neither truth nor prediction has."""
        return ratio(self.hits, self.unions)

    def occupied_iou(self) -> float:
        """IoU of "not free"; NaN if nothing is occupied in either."""
        occupied = np.arange(len(self.counts)) != FREE
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
    """part / whole in float64, NaN where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def mean_over(values: np.ndarray, classes) -> float:
    """Mean of `values[classes]` without NaN; NaN if nothing is left."""
    chosen = values[list(classes)]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if len(chosen) else float("nan")
