"""Finite check: a loss or gradient that is no number ends the run before anything of it is saved."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Int, Shaped

from occjax.errors import UserError

Metrics = dict[str, Shaped[Array, ""]]


class NonFiniteLossError(UserError):
    """A loss or gradient is infinite or no number."""


class FiniteCheck:
    """Looks one step back, so that the host hands the device its next step before it waits for the last one.

    The contract: `follow` after every step, `settle` before the state is saved, evaluated or reported. A step that went
    wrong is then found one step late at the most, and never after something of it was written.
    """

    def __init__(self, tokens: Sequence[str], last_checkpoint: Callable[[], Path | None]):
        self._tokens, self._last_checkpoint = tokens, last_checkpoint
        # Of the step that the device was given and nobody has looked at yet.
        self._open: tuple[int, Metrics, np.ndarray] | None = None

    def follow(self, step: int, metrics: Metrics, sample_index: Int[np.ndarray, "b"]) -> None:
        """Takes note of a step that was just handed to the device, and looks at the one before it.

        Args:
          step: its number.
          metrics: its scalars, `is_finite` among them.
          sample_index: rows of its samples.

        Raises:
          NonFiniteLossError: of the step before.
        """
        self.settle()
        self._open = step, metrics, sample_index

    def settle(self) -> None:
        """Waits for the step that is still open and looks at it.

        Raises:
          NonFiniteLossError: its loss or gradient is not finite; names step, terms, samples and the last checkpoint.
        """
        if self._open is None:
            return
        (step, metrics, sample_index), self._open = self._open, None
        # The one place where the host waits for the device; the other scalars stay there unless they are needed.
        if bool(metrics["is_finite"]):
            return
        listed = "\n".join(f"  {name}: {float(value)}" for name, value in jax.device_get(metrics).items())
        tokens = ", ".join(str(self._tokens[i]) for i in sample_index)
        raise NonFiniteLossError(
            f"the loss or gradient of step {step} is not finite:\n{listed}\nsamples: {tokens}\n"
            f"last sound checkpoint: {self._last_checkpoint() or 'none yet'}; look at these samples, or lower "
            "--config.train.learning_rate"
        )
