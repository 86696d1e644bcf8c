"""Scores that say which protocol, mask and grid they were computed by."""

import math
from typing import NamedTuple

from occjax.classes import CLASS_NAMES


class Scores(NamedTuple):
    """What a protocol says about a set of samples.

    Attributes:
      protocol: name of the published protocol.
      mask: which voxels or rays count.
      grid: the grid in words.
      samples: how many were counted.
      summary: shares in 0..1 by name ("miou", "iou", ...); NaN where undefined.
      per_class: share in 0..1 of each class by name; NaN where the protocol skips it.
      remark: what a reader of the numbers has to know, or "".
    """

    protocol: str
    mask: str
    grid: str
    samples: int
    summary: dict[str, float]
    per_class: dict[str, float]
    remark: str = ""

    def to_dict(self) -> dict:
        """For JSON: shares in per cent, None where undefined."""
        return {
            "protocol": self.protocol,
            "mask": self.mask,
            "grid": self.grid,
            "samples": self.samples,
            "unit": "per cent",
            # Beside the heading, not below it: readers of metrics.json say protocol["miou"].
            **{name: percent(value) for name, value in self.summary.items()},
            "per_class": {name: percent(value) for name, value in self.per_class.items()},
            **({"remark": self.remark} if self.remark else {}),
        }


def percent(share: float) -> float | None:
    """A share in 0..1 in per cent; None where it is undefined, as JSON knows no NaN."""
    return None if math.isnan(share) else 100 * float(share)


def by_class_name(values, classes) -> dict[str, float]:
    """{class name: value} for the given classes."""
    return {CLASS_NAMES[c]: float(values[c]) for c in classes}
