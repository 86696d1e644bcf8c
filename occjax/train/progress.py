"""Progress line: step, losses, samples per second, time left, and what the wall time was spent on."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Literal

from occjax.system.progress import format_duration

# Steps have what the others leave; evaluation's own compiling and waiting belong to validating.
Work = Literal["waiting", "compiling", "saving", "validating"]
_NEWS = 0.2  # share of the last interval in the smoothed time of a step


class Progress:
    """Says where the wall time between two log lines went, and how fast steps are in what is left of it for them."""

    def __init__(self, total_steps: int, batch_size: int):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._whole_run: dict[str, float] = {}
        # Of a step over all devices; NaN until it is known.
        self.flops_per_step = math.nan
        # Of the last intervals, so that a slow one does not add an hour to the time left.
        self._smooth_step_s = math.nan
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._spent_s: dict[Work, float] = dict.fromkeys(("waiting", "compiling", "saving", "validating"), 0.0)
        self._steps = 0

    @contextlib.contextmanager
    def spending(self, work: Work) -> Iterator[None]:
        """Context whose time goes to `work`; not one within another."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s[work] += time.perf_counter() - start

    def next_item(self, iterator):
        """The next step's item; the time that took is waiting: the device is idle, or the item is there."""
        with self.spending("waiting"):
            item = next(iterator)
        self._steps += 1
        return item

    def measure(self) -> dict[str, float]:
        """Figures of the interval that ends here, and begins the next one.

        samples_per_s and step_s leave out compiling, saving and validating. `time/…` are shares of the interval's wall
        time that add up to 1. model_tflop_per_s, where it is known: what the model computes, as it is written and over
        all devices, by the time of a step.
        """
        # Not 0, where a clock is too coarse to see an interval; nor a step, where none was done.
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        seconds = {"step": elapsed - sum(self._spent_s.values()), **self._spent_s}
        step_s = max(seconds["step"] + seconds["waiting"], 1e-9) / max(self._steps, 1)
        if self._steps:
            before = step_s if math.isnan(self._smooth_step_s) else self._smooth_step_s
            self._smooth_step_s = before + _NEWS * (step_s - before)
        for work, spent in seconds.items():
            self._whole_run[work] = self._whole_run.get(work, 0.0) + spent
        self._begin()
        speed = {"samples_per_s": self._batch_size / step_s, "step_s": step_s}
        if not math.isnan(self.flops_per_step):
            speed["model_tflop_per_s"] = self.flops_per_step / step_s / 1e12
        return speed | {f"time/{work}": spent / elapsed for work, spent in seconds.items()}

    def line(self, step: int, terms: dict[str, float], speed: dict[str, float]) -> str:
        """One line for people; `terms` in the order to show them."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
        left = format_duration((self._total_steps - step) * self._smooth_step_s)
        return (
            f"step {step}/{self._total_steps}  {losses}  {speed['samples_per_s']:.2f} samples/s  "
            f"waiting for data {100 * speed['time/waiting']:.0f}%  left {left}"
        )

    def summary(self) -> str:
        """What all of the time since the beginning was spent on."""
        self.measure()
        total = sum(self._whole_run.values())
        parts = ", ".join(f"{work} {100 * spent / total:.1f}%" for work, spent in self._whole_run.items())
        return f"{format_duration(total)} of wall time: {parts}"
