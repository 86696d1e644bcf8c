"""The progress line of a long piece of work: how much is done, how fast it goes, how long it will take."""

import time
from collections.abc import Callable


def format_duration(seconds: float) -> str:
    """Whole seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Says a line every few seconds, and one at the end."""

    def __init__(
        self,
        about: str,
        total: int,
        say: Callable[[str], None],
        *,
        unit: str = "samples",
        every_s: float = 15.0,
        untimed: int = 0,
    ):
        """Starts the clock.

        Args:
          about: what goes on, the line's beginning.
          total: pieces of work to be done.
          say: takes a line.
          unit: what a piece of work is called.
          every_s: seconds between lines; 0 = a line whenever there is news.
          untimed: pieces at the beginning that say nothing about the speed of the others: those of the first batch,
            which waits for the compiler and then gives them all at once.
        """
        self._about, self._total, self._say, self._unit, self._every_s = about, total, say, unit, every_s
        self._done, self._untimed = 0, min(untimed, total)
        # Monotonic: a clock that is set back would end the lines.
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, remark: str = "") -> None:
        """Counts `count` more pieces; `remark` stands in the line after the speed."""
        self._done = min(self._done + count, self._total)
        now = time.monotonic()
        if self._done <= self._untimed:
            # The clock starts anew with the last of them.
            self._start = self._last = now
        is_end = self._done == self._total
        # Nothing is said of a speed before there is one, but for the end.
        if not is_end and (now - self._last < self._every_s or self._done <= self._untimed):
            return
        self._last = now
        speed = (self._done - self._untimed) / max(now - self._start, 1e-9)
        parts = [f"{self._about}: {self._done}/{self._total} {self._unit}"]
        parts += [f"{speed:.2f} {self._unit}/s"] if speed else []
        parts += [remark] if remark else []
        parts += [] if is_end else [f"{format_duration((self._total - self._done) / speed)} left"]
        self._say(", ".join(parts))
