"""Learner: what is constant over a run (configuration, graphs, optimizer), and the state that it starts from."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Int

from occjax.classes import OCC3D_CLASS_COUNTS
from occjax.config import RANDOM, Config
from occjax.losses.distillation import BevAdapter
from occjax.models.resnet import load_backbone_weights
from occjax.models.student import Student, split_student, trainable_mask
from occjax.train.optimizer import make_optimizer
from occjax.train.state import TrainState


class Learner(NamedTuple):
    """All that a training step knows beside its state and its batch; the only arrays are `class_counts`.

    Attributes:
      config: of the run.
      student, adapter: graphs of the modules, without their arrays.
      optimizer: of the parameters that train.
      total_steps: updates of the run.
      class_counts: voxels per class in the training labels, for the class weights of the cross-entropy.
    """

    config: Config
    student: nnx.GraphDef
    adapter: nnx.GraphDef
    optimizer: optax.GradientTransformation
    total_steps: int
    class_counts: Int[np.ndarray, "k"]

    def is_logged(self, step: Any) -> Any:
        """Whether the scalars of a step (1 = the first; an int or a traced one) go to the log."""
        return (step % self.config.train.log_every == 0) | (step == self.total_steps)


def make_learner(config: Config, total_steps: int, class_counts: Int[np.ndarray, "k"] = OCC3D_CLASS_COUNTS) -> Learner:
    """The learner of a run of `total_steps` updates, which shape the schedule of the learning rate."""
    # Graphs and shapes only: a restored run would throw drawn weights away.
    student, adapter = nnx.eval_shape(lambda: _build(config))
    student_graph, student_params, _ = split_student(student)
    adapter_graph, adapter_params = nnx.split(adapter)
    trainable = {
        "student": trainable_mask(config.model, student_params),
        "adapter": jax.tree.map(lambda _: True, nnx.to_pure_dict(adapter_params)),
    }
    optimizer = make_optimizer(config.train, total_steps, trainable)
    return Learner(config, student_graph, adapter_graph, optimizer, total_steps, class_counts)


def random_state(learner: Learner) -> TrainState:
    """The state before the first step, drawn from the configured seed."""
    student, adapter = _build(learner.config)
    _, student_params, batch_stats = split_student(student)
    params = {"student": student_params, "adapter": nnx.to_pure_dict(nnx.split(adapter)[1])}
    # One program instead of one for each of the hundreds of moments.
    opt_state = jax.jit(learner.optimizer.init)(params)
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, {})
    return state.with_student(student_params, batch_stats)


def abstract_state(learner: Learner) -> TrainState:
    """Shapes and types of the learner's state, to restore a checkpoint against."""
    return jax.eval_shape(lambda: random_state(learner))


def initial_state(learner: Learner, sharding: NamedSharding) -> TrainState:
    """A fresh state on the devices of `sharding`, with the configured backbone weights where they are a file's.

    Raises:
      BackboneWeightsError: these are missing or of another backbone.
    """
    state = jax.device_put(random_state(learner), sharding)
    backbone = learner.config.model.backbone
    if backbone.weights == RANDOM:
        return state
    # The average has to start from the loaded weights too, not from the random ones that they replace.
    student = load_backbone_weights(backbone, *state.student("raw"))
    return state.with_student(*jax.device_put(student, sharding))


def _build(config: Config) -> tuple[Student, BevAdapter]:
    # One stream of random numbers for both, in this order: it decides what a seed means.
    rngs = nnx.Rngs(config.train.seed)
    student = Student(config.model, config.grid.build(), rngs=rngs)
    return student, BevAdapter(config.model.bev_encoder.out_channels, rngs=rngs)
