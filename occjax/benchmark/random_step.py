"""Random step: the training step on random batches, whole or without one of its parts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp

from occjax.benchmark.random_batch import random_batch
from occjax.benchmark.timing import compiled_bytes, median_wall_s
from occjax.config import Config
from occjax.models import layers, view_transform
from occjax.system.mesh import make_mesh, put_batch, replicated
from occjax.train.learner import make_learner, random_state
from occjax.train.step import make_train_step


class Step(NamedTuple):
    """A compiled training step with what it runs on, and what it took."""

    program: jax.stages.Compiled
    state: Any
    batch: Any
    wall_s: float
    compile_s: float
    peak_bytes: int


def measure_step(config: Config, dtype: Literal["float32", "bfloat16"], size: int) -> Step:
    """Compiles the step for batches of `size` samples in `dtype` and times it."""
    config.model.compute_dtype = dtype
    mesh = make_mesh(jax.devices()[:1])
    learner = make_learner(config, total_steps=10**6)
    state = jax.device_put(random_state(learner), replicated(mesh))
    batch = put_batch(random_batch(config, size), mesh)
    start = time.perf_counter()
    program = make_train_step(learner, mesh).lower(state, batch).compile()
    compile_s = time.perf_counter() - start
    return Step(program, state, batch, time_step(program, state, batch), compile_s, compiled_bytes(program))


def time_step(program: jax.stages.Compiled, state: Any, batch: Any) -> float:
    """Median wall time of a compiled step, run for two seconds or more; the state is still there afterwards."""
    # The step takes what it is given for its own.
    held = [jax.device_put(state, may_alias=False)]

    def once():
        held[0], metrics = program(held[0], batch)
        return metrics

    return median_wall_s(once, seconds=2.0)


def parts_to_leave_out() -> dict[str, Callable[[Config], AbstractContextManager]]:
    """By name: a context in which a step that is traced for the configuration lacks the part."""
    return {
        "BatchNorm's statistics": _without_statistics,
        # Patched, so that they are back whatever becomes of the step: one may be too large for the device.
        "Lovász": lambda config: patch.object(config.loss, "lovasz", 0.0),
        "affinity": lambda config: patch.object(config.loss, "scene_class_affinity", 0.0),
        "distillation": lambda config: patch.object(config.loss, "distill", type(config.loss.distill)()),
        "splat": _without_splat,
    }


@contextlib.contextmanager
def _without_statistics(_: Config) -> Iterator[None]:
    def affine(x, weight, scale, shift):
        return (x * scale + shift).astype(x.dtype), shift, scale

    with patch.object(layers, "batch_normalize", affine):
        yield


@contextlib.contextmanager
def _without_splat(_: Config) -> Iterator[None]:
    def spread(context, weights, cells, num_cells):
        # Of the right shape, with gradients to both, and nothing moved by index.
        each = jnp.einsum("bnhwc,bnhwd->bc", context, weights) / cells[0].size
        return jnp.broadcast_to(each[:, None], (each.shape[0], num_cells, each.shape[1]))

    with patch.object(view_transform, "splat", spread):
        yield
