"""Class weights of the cross-entropy, from how often each class occurs in the training labels."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int, Integer, Real

from occjax.classes import IGNORE, NUM_CLASSES, OCC3D_CLASS_COUNTS

# A class that a small data set shows in fewer voxels than this (at the size of Occ3D) weighs as much as one with it.
_SMALLEST_COUNT = 1e4


def count_classes(labels: Iterable[Integer[np.ndarray, "..."]]) -> Int[np.ndarray, "k"]:
    """Voxels per class, int64, over label arrays of integer class ids; 255 is left out."""
    counts = np.zeros(NUM_CLASSES, np.int64)
    for semantics in labels:
        counts += np.bincount(semantics.reshape(-1), minlength=IGNORE + 1)[:NUM_CLASSES]
    return counts


def class_weights(
    counts: Real[np.ndarray, "k"] = OCC3D_CLASS_COUNTS, *, ignored: tuple[int, ...] = ()
) -> Float[np.ndarray, "k"]:
    """1 / log(frequency + 0.001), mean 1 over the classes that count (FlashOCC).

    The logarithm depends on the size of the data set, so counts are first scaled to the total of Occ3D-nuScenes.

    Args:
      counts: [K] voxels per class.
      ignored: classes that no loss counts (0 on SurroundOcc); their weight is 0.

    Returns:
      float32 [K].

    Raises:
      ValueError: `counts` has another length, a negative entry, or no voxel of a class that counts.
    """
    counts = np.asarray(counts, np.float64)
    if counts.shape != (NUM_CLASSES,) or counts.min() < 0 or np.delete(counts, ignored).sum() == 0:
        raise ValueError(
            f"class weights need {NUM_CLASSES} non-negative voxel counts, some of classes that count, found "
            f"{counts.tolist()}; count the training labels again or use OCC3D_CLASS_COUNTS"
        )
    # Half the data makes the same weights: only the shares of the classes may tell.
    frequency = np.maximum(counts * (OCC3D_CLASS_COUNTS.sum() / counts.sum()), _SMALLEST_COUNT)
    weights = 1 / np.log(frequency + 0.001)
    weights[list(ignored)] = 0
    # Mean 1, so that balancing the classes does not change how much the term weighs beside the others.
    counted = (counts > 0) & (weights > 0)
    return (weights / weights[counted].mean()).astype(np.float32)
