"""Calibration of occupancy: whether "70 % occupied" is occupied 70 % of the time, and which temperature makes it so."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from occjax.metrics.confusion import ratio
from occjax.metrics.scores import percent

# Probabilities are counted in this many equal bins, so that the state holds integers only and merges exactly; a bin
# stands for its centre, which is off by 0.0005 at most.
FINE_BINS = 1000
# Divides FINE_BINS: a bin is 50 of them.
_BINS = 20
# The network's own probabilities.
OWN = (1.0,)
# What a fit chooses from, 0.5 to 3.6 in steps of 5 %: no temperature is farther than 2.5 % from one of them, and the
# likelihood is flat where it is best.
CANDIDATES = tuple(1.05**k for k in range(-14, 27))


class CalibrationCounts(NamedTuple):
    """What `occjax.metrics.on_device` counts of one sample, or with a batch axis in front, at T temperatures.

    Attributes:
      histogram: int [T, 2, 1000]; voxels that count by the probability of "not free": all, and those occupied in truth.
      nll: float [T]; sum over the same voxels of the negative log-likelihood of their class, nats.
    """

    histogram: Any
    nll: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Histograms of the probability of "not free" at each temperature, and likelihoods; a mergeable state.

    A temperature divides the logits of all classes, which leaves the most probable one as it is; the best one makes the
    truth's classes most likely (Guo et al. 2017). Likelihoods of "occupied" and "free" alone would be no better guide:
    divided logits drift towards "occupied", which has all classes but one, and the calibration error with them.

    Attributes:
      temperatures: first 1, the network's own; then those that are tried, if any.
      counts: int64 [T, 2, 1000] as `CalibrationCounts.histogram`.
      nll: float64 [T].
    """

    temperatures: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    counts: np.ndarray
    nll: np.ndarray

    @classmethod
    def empty(cls, temperatures: tuple[float, ...] = OWN) -> "Calibration":
        """No voxels yet."""
        return cls(temperatures, np.zeros((len(temperatures), 2, FINE_BINS), np.int64), np.zeros(len(temperatures)))

    def update(self, sample: CalibrationCounts) -> "Calibration":
        """Adds one sample, counted at the same temperatures."""
        counts = self.counts + sample.histogram.astype(np.int64)
        return dataclasses.replace(self, counts=counts, nll=self.nll + sample.nll.astype(np.float64))

    def compute(self, place: int = 0) -> float:
        """Expected calibration error at one of the temperatures (Guo et al. 2017), over 20 bins; NaN without voxels.

        The mean over voxels of |mean probability - share occupied| of the voxel's bin.
        """
        total, occupied = self.counts[place].reshape(2, _BINS, -1)
        centres = (np.arange(FINE_BINS) + 0.5).reshape(_BINS, -1) / FINE_BINS
        # A bin's gap weighs as many voxels as it holds, so that the division by their number cancels.
        gaps = np.abs((total * centres).sum(-1) - occupied.sum(-1))
        return float(ratio(gaps.sum(), total.sum()))

    def best(self) -> dict[str, float | None] | None:
        """The best temperature that was tried, None where none was, as metrics.json has it.

        `nll` and `own_nll`, nats per voxel, are at this temperature and at 1; the error is in per cent.
        """
        if len(self.temperatures) == 1 or not self.counts.any():
            return None
        place = 1 + int(np.argmin(self.nll[1:]))
        own_nll, nll = (float(self.nll[i] / self.counts[i, 0].sum()) for i in (0, place))
        return {
            "value": self.temperatures[place],
            "occupancy_calibration_error": percent(self.compute(place)),
            "nll": nll,
            "own_nll": own_nll,
        }
