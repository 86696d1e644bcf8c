"""Progress line: step, losses, samples per second, share of time spent waiting for data, time left."""

import time

from occjax.progress import format_duration


class Progress:
    """Times steps between two log lines; time spent outside of steps (validation, saving) does not count."""

    def __init__(self, total_steps: int, batch_size: int):
        self._total_steps = total_steps
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Starts a new interval."""
        self._start = time.perf_counter()
        self._waited_s = 0.0
        self._steps = 0

    def next_item(self, iterator):
        """The next step's item; the time that took is waiting: the device is idle, or the item is there."""
        start = time.perf_counter()
        item = next(iterator)
        self._waited_s += time.perf_counter() - start
        self._steps += 1
        return item

    def measure(self) -> dict[str, float]:
        """Figures of the interval: samples_per_s, step_s, data_wait (share of the interval)."""
        # Not 0, where a clock is too coarse to see an interval; nor a step, where none was done.
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        step_s = elapsed / max(self._steps, 1)
        return {
            "samples_per_s": self._batch_size / step_s,
            "step_s": step_s,
            "data_wait": self._waited_s / elapsed,
        }

    def line(self, step: int, terms: dict[str, float], speed: dict[str, float]) -> str:
        """One line for people; `terms` in the order to show them."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
        left = format_duration((self._total_steps - step) * speed["step_s"])
        return (
            f"step {step}/{self._total_steps}  {losses}  {speed['samples_per_s']:.2f} samples/s  "
            f"waiting for data {100 * speed['data_wait']:.0f}%  left {left}"
        )
