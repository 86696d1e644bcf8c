"""Calibration of occupancy, its expected error: whether "70 % occupied" is occupied 70 % of the time."""

import dataclasses

import jax
import numpy as np

from occjax.metrics.confusion import ratio

# Probabilities are counted in this many equal bins, so that the state holds integers only and merges exactly; a bin
# stands for its centre, which is off by 0.0005 at most.
FINE_BINS = 1000
# Divides FINE_BINS: a bin is 50 of them.
_BINS = 20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Histograms of the probability of "not free"; a mergeable state.

    Attributes:
      counts: int64 [2, 1000]; first row all voxels that count, second row those that are occupied in truth.
    """

    counts: np.ndarray

    @classmethod
    def empty(cls) -> "Calibration":
        """No voxels yet."""
        return cls(np.zeros((2, FINE_BINS), np.int64))

    def update(self, histogram: np.ndarray) -> "Calibration":
        """Adds a histogram [2, 1000] of `occjax.metrics.on_device.occupancy_histogram`."""
        return Calibration(self.counts + histogram.astype(np.int64))

    def compute(self) -> float:
        """Expected calibration error over 20 equal bins (Guo et al. 2017); NaN without voxels.

        The mean over voxels of |mean probability - share occupied| of the voxel's bin.
        """
        total, occupied = self.counts.reshape(2, _BINS, -1)
        centres = (np.arange(FINE_BINS) + 0.5).reshape(_BINS, -1) / FINE_BINS
        # A bin's gap weighs as many voxels as it holds, so that the division by their number cancels.
        gaps = np.abs((total * centres).sum(-1) - occupied.sum(-1))
        return float(ratio(gaps.sum(), total.sum()))
