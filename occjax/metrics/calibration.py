"""Calibration of occupancy: whether "70 % occupied" is occupied 70 % of the time, and which temperature makes it so."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Int

from occjax.metrics.confusion import ratio
from occjax.metrics.scores import percent

# Probabilities are counted in this many equal bins, so that the state holds integers only and merges exactly; a bin
# stands for its centre, which is off by 0.0005 at most.
FINE_BINS = 1000
# Divides FINE_BINS: a bin is 50 of them.
_BINS = 20
# The network's own probabilities.
OWN = (1.0,)
# What a fit chooses from, 0.5 to 3.6 in steps of 5 %: no temperature is farther than 2.5 % from one of them. 1 is among
# them, so that a fit makes nothing worse.
CANDIDATES = tuple(1.05**k for k in range(-14, 27))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Histograms of the probability of "not free" at each temperature; a mergeable state.

    A temperature divides the logits of all classes, which leaves the most probable one as it is. The best one has the
    least expected calibration error of "occupied", which is what cost maps are made of. The likelihood of the classes,
    by which temperatures are fitted where no class is special (Guo et al. 2017), asks for others: what a network takes
    for another class costs likelihood, and makes it doubt what is occupied as well.

    Attributes:
      temperatures: first 1, the network's own; then those that are tried, if any.
      counts: int64 [T, 2, 1000]; voxels that count by the probability of "not free": all, and those occupied in truth.
    """

    temperatures: tuple[float, ...] = dataclasses.field(metadata={"static": True})
    counts: np.ndarray

    @classmethod
    def empty(cls, temperatures: tuple[float, ...] = OWN) -> "Calibration":
        """No voxels yet."""
        return cls(temperatures, np.zeros((len(temperatures), 2, FINE_BINS), np.int64))

    def update(self, sample: Int[np.ndarray, "t 2 bins"]) -> "Calibration":
        """Adds one sample, as `occjax.metrics.on_device.calibration_counts` counts it at the same temperatures."""
        return dataclasses.replace(self, counts=self.counts + sample.astype(np.int64))

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
        """The best temperature that was tried and its error in per cent, as metrics.json has it; None without any."""
        if len(self.temperatures) == 1 or not self.counts.any():
            return None
        errors = [self.compute(place) for place in range(1, len(self.temperatures))]
        place = int(np.argmin(errors))
        return {"value": self.temperatures[1 + place], "occupancy_calibration_error": percent(errors[place])}
