"""Compiled training step, and how much arithmetic it is."""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from occjax.train.learner import Learner
from occjax.train.objective import Terms
from occjax.train.state import TrainState
from occjax.train.step import make_train_step
from occjax.types import Batch


class CompiledStep(NamedTuple):
    """A step that will compile nothing any more.

    Attributes:
      call: state and batch to the next state and its scalars; the state that goes in is donated.
      flops: floating-point operations of one step over all devices, NaN where jax cannot say.
    """

    call: Callable[[TrainState, Batch], tuple[TrainState, Terms]]
    flops: float


def compile_step(learner: Learner, mesh: Mesh, state: TrainState, batch: Batch) -> CompiledStep:
    """Compiles the step for a state and a batch of these shapes, and waits for it."""
    lowered = make_train_step(learner, mesh).lower(state, batch)
    return CompiledStep(lowered.compile(), model_flops(lowered, learner.config.train.accumulate_steps))


def model_flops(lowered: jax.stages.Lowered, accumulate_steps: int) -> float:
    """XLA's count of the program as it was written, before any device's compiler changed it: the same on all of them.

    Loops count once. The one over micro-batches is nearly all of its step, and is multiplied out.
    """
    # Nice to know, on whatever jax can say it for.
    with contextlib.suppress(NotImplementedError, RuntimeError):
        return (lowered.cost_analysis() or {}).get("flops", math.nan) * accumulate_steps
    return math.nan
