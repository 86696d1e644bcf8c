"""State of training: everything that is carried from step to step, as one tree of arrays."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


class TrainState(NamedTuple):
    """Long-lived arrays only; replaced whole by each step.

    Attributes:
      step: int32 updates done.
      params: {"student": ..., "adapter": ...}; the adapter serves feature distillation and is no part of the student.
      batch_stats: running statistics of the student's BatchNorm layers.
      opt_state: optimizer moments.
      ema: {"params": ..., "batch_stats": ...} moving averages of the student; statistics are averaged too, or the
        averaged weights would be normalised with those of other weights.
    """

    step: Int[Array, ""]
    params: dict
    batch_stats: dict
    opt_state: Any
    ema: dict

    def student(self, which: Literal["ema", "raw"]) -> tuple[dict, dict]:
        """Parameters and running statistics of the student: averaged, or as the last step left them."""
        if which == "ema":
            return self.ema["params"], self.ema["batch_stats"]
        return self.params["student"], self.batch_stats

    def with_student(self, params: dict, batch_stats: dict) -> "TrainState":
        """The same state with another student, whose average starts from itself."""
        # A copy: the state is donated to the next step, and a donated buffer must not occur in it twice.
        ema = jax.device_put({"params": params, "batch_stats": batch_stats}, may_alias=False)
        return self._replace(params={**self.params, "student": params}, batch_stats=batch_stats, ema=ema)


def update_ema(ema: dict, params: dict, batch_stats: dict, step: Int[Array, ""], decay: float) -> dict:
    """Moving averages after update number `step`; the decay ramps up so that early weights are soon forgotten."""
    # 0.1 at first, 0.5 after 8 updates, 0.99 after 890: an average over about a tenth of the steps so far.
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    fresh = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(lambda old, new: old * kept + new * (1 - kept), ema, fresh)
