"""Cost of the distillation loss on the compact teacher and on a dense one: memory, time, and that they agree."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from occjax.benchmark.dense_distillation import DENSE_TERMS, dense_distillation_terms
from occjax.benchmark.timing import StageTimes
from occjax.config import Config
from occjax.losses.distillation import distillation_terms
from occjax.targets.moving import dense_log_probs
from occjax.types import Predictions, TeacherTargets

_RUNS = 5


class DistillationCost(NamedTuple):
    """One way to compute loss and gradient with respect to the student's logits, for one sample.

    Attributes:
      teacher_bytes: of the teacher on the device.
      working_bytes: what the compiled program needs beside its inputs and outputs, at its peak.
      wall_s, processor_s: of a run; the processor's is 0 where the device is none.
      terms: their values.
    """

    teacher_bytes: int
    working_bytes: int
    wall_s: float
    processor_s: float
    terms: dict[str, float]


def measure_distillation(config: Config, teacher: TeacherTargets) -> dict[str, DistillationCost]:
    """ "compact" and "dense", on unbatched targets on the model's grid and random logits of the student.

    Every voxel counts, and terms without a dense form are left out: the BEV feature's teacher is a map either way.
    """
    voxels = teacher.voxels
    assert voxels is not None
    teacher = teacher._replace(voxels=voxels._replace(valid=None))
    grid, distill = config.grid.build(), config.loss.distill
    wanted = dataclasses.replace(distill)
    for name in set(distill.weight_fields()) - set(DENSE_TERMS):
        setattr(wanted, name, 0.0)
    # Twice a normal: as decided as a student is after some training, so that no term is near 0.
    logits = 2 * jax.random.normal(jax.random.key(0), (*grid.shape, len(voxels.background)))

    def compact(logits, teacher):
        predictions = Predictions(logits[None], None, None, None, None)  # [1, X, Y, Z, K], a batch of one
        return distillation_terms(predictions, jax.tree.map(lambda x: x[None], teacher), None, wanted, grid)

    return {
        "compact": _measure(compact, logits, teacher),
        "dense": _measure(
            lambda logits, teacher: dense_distillation_terms(logits, teacher, wanted),
            logits,
            dense_log_probs(teacher, grid.shape),
        ),
    }


def _measure(
    terms_of: Callable[[Any, Any], dict[str, Float[Array, ""]]], logits: Float[Array, "x y z k"], teacher: Any
) -> DistillationCost:
    teacher = jax.device_put(teacher)

    def loss(logits, teacher):
        terms = terms_of(logits, teacher)
        return sum(terms.values()), terms

    program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(logits, teacher).compile()
    memory = program.memory_analysis()
    assert memory is not None
    (_, terms), _ = jax.block_until_ready(program(logits, teacher))
    stages, walls = StageTimes(), []
    for _ in range(_RUNS):
        start = time.perf_counter()
        stages.run("gradient", lambda: jax.block_until_ready(program(logits, teacher)))
        walls.append(time.perf_counter() - start)
    return DistillationCost(
        teacher_bytes=sum(x.nbytes for x in jax.tree.leaves(teacher)),
        working_bytes=memory.temp_size_in_bytes,
        wall_s=float(np.median(walls)),
        processor_s=stages.median_ms("gradient") / 1e3,
        terms={name: float(jnp.asarray(value)) for name, value in terms.items()},
    )
