"""Everything that training carries from step to step, as one tree of arrays, and how it starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding

from occjax.config import Config
from occjax.losses.distillation import BevAdapter
from occjax.models.student import Student, split_student, trainable_mask
from occjax.train.optimizer import make_optimizer


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

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: Any
    ema: dict


class Program(NamedTuple):
    """What is constant over a run: graphs without arrays, and the optimizer."""

    student: nnx.GraphDef
    adapter: nnx.GraphDef
    optimizer: optax.GradientTransformation


def make_program(config: Config, total_steps: int) -> tuple[Program, Callable[[], TrainState]]:
    """The run's program and a function that initialises the state.

    Returns:
      the program, and `init() -> TrainState`; `jax.eval_shape(init)` tells its shapes.
    """

    def build():
        rngs = nnx.Rngs(config.train.seed)
        student = Student(config.model, config.grid.build(), rngs=rngs)
        return student, BevAdapter(config.model.bev_encoder.out_channels, rngs=rngs)

    student, adapter = nnx.eval_shape(build)
    student_graph, student_params, _ = split_student(student)
    adapter_graph, adapter_params = nnx.split(adapter)
    trainable = {
        "student": trainable_mask(config.model, student_params),
        "adapter": jax.tree.map(lambda _: True, nnx.to_pure_dict(adapter_params)),
    }
    optimizer = make_optimizer(config.train, total_steps, trainable)

    def init() -> TrainState:
        student, adapter = build()
        _, student_params, batch_stats = split_student(student)
        params = {"student": student_params, "adapter": nnx.to_pure_dict(nnx.split(adapter)[1])}
        # Copies: a donated state must not hold the same buffer twice.
        ema = jax.tree.map(jnp.copy, {"params": student_params, "batch_stats": batch_stats})
        opt_state = jax.jit(optimizer.init)(params)
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, ema)

    return Program(student_graph, adapter_graph, optimizer), init


def initial_state(config: Config, init: Callable[[], TrainState], sharding: NamedSharding) -> TrainState:
    """A fresh state on the devices of `sharding`, with the configured backbone weights where there are any."""
    state = jax.device_put(init(), sharding)
    if not config.model.backbone.weights:
        return state
    from occjax.models.resnet import load_backbone_weights

    student, stats = load_backbone_weights(
        Path(config.model.backbone.weights), state.params["student"], state.batch_stats
    )
    student, stats = jax.device_put((student, stats), sharding)
    ema = jax.tree.map(jnp.copy, {"params": student, "batch_stats": stats})
    return state._replace(params={**state.params, "student": student}, batch_stats=stats, ema=ema)


def update_ema(ema: dict, params: dict, batch_stats: dict, step: jax.Array, decay: float) -> dict:
    """Moving averages after update number `step`; the decay ramps up so that early weights are soon forgotten."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    fresh = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(lambda old, new: old * decay + new * (1 - decay), ema, fresh)
