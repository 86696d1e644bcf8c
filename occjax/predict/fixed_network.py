"""Network of one rig as a function of its images alone: what an export holds."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import Config
from occjax.grid import VoxelGrid
from occjax.models.fixed_rig import fix_rig, fixed_rig_columns, fold_batch_norm, padded_max_pool
from occjax.models.preprocess import normalize_images
from occjax.models.student import Student, abstract_student
from occjax.predict.rig import CalibrationError
from occjax.predict.stored_weights import Weights
from occjax.predict.temperature import NO_TEMPERATURE
from occjax.types import CameraRig

# What an export gives, in this order: [X, Y, Z], [X, Y, Z, K], [X, Y].
DTYPES = {"classes": jnp.uint8, "probabilities": jnp.float16, "bev": jnp.uint8}
OUTPUTS = tuple(DTYPES)
# Of logits at once. Those of SurroundOcc's grid are 46 MB, and what makes and reads them waits for the memory: a frame
# of configs/realtime.py takes 65 to 68 ms in strips and 69 to 71 whole, by ONNX Runtime on two cores with AVX-512.
_STRIP_BYTES = 3 << 20
# Above every class: a column's code is its height and its class in one number.
_BASE = 32


class FixedNetwork(NamedTuple):
    """A student for one rig.

    Attributes:
      function: uint8 images [1, N, H, W, 3] to the arrays of `outputs`, in their order.
      input_shape: of the images.
      outputs: names of what comes out.
      coverage: share of the grid's columns that a feature falls into.
    """

    function: Callable[[UInt8[Array, "1 n h w 3"]], tuple[Array, ...]]
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    coverage: float


def fixed_network(config: Config, weights: Weights, rig: CameraRig, outputs: tuple[str, ...]) -> FixedNetwork:
    """The network of a rig: geometry, camera gates and BatchNorm are constants of it.

    Args:
      config: of the run.
      weights: what the student predicts with.
      rig: one frame's, all cameras present; with a batch axis of 1.
      outputs: some of `OUTPUTS`.

    Raises:
      CalibrationError: the rig sees nothing of the grid.
    """
    graph, _, _ = abstract_student(config.model, config.grid.build())
    # Copies: what is folded here stays whole for everybody else.
    student: Student = nnx.merge(graph, *jax.tree.map(jnp.array, (weights.params, weights.batch_stats)))
    height, width = config.data.image_height, config.data.image_width
    fixed, covers = fix_rig(student, rig, (height, width))
    coverage = float(covers.any(0).mean())
    if coverage == 0:
        raise CalibrationError("no camera of the rig sees anything of the grid; check the poses and their frame")
    fold_batch_norm(student)
    student.backbone.pool = padded_max_pool

    def function(images: UInt8[Array, "1 n h w 3"]) -> tuple[Array, ...]:
        columns = fixed_rig_columns(student, normalize_images(images), fixed)
        strips = [
            [values_of(student.head.logits(strip)[0], name, weights.temperature) for name in outputs]
            for strip in jnp.array_split(columns, strip_count(config.grid.build()), axis=1)
        ]
        # Cast when they are joined: TensorRT has no uint8 inside of a network.
        return tuple(
            jnp.concatenate(parts).astype(DTYPES[name])
            for name, parts in zip(outputs, zip(*strips, strict=True), strict=True)
        )

    return FixedNetwork(function, (1, rig.is_present.shape[1], height, width, 3), outputs, coverage)


def strip_count(grid: VoxelGrid) -> int:
    """In how many strips, along x, logits are made and read: each is small enough for a processor's cache."""
    return min(grid.shape[0], -(-4 * NUM_CLASSES * grid.num_voxels // _STRIP_BYTES))


def output_of(logits: Float[Array, "x y z k"], name: str, temperature: float = NO_TEMPERATURE) -> Array:
    """One of `OUTPUTS`, of the network's own logits; `temperature` is that of the probabilities."""
    return values_of(logits, name, temperature).astype(DTYPES[name])


def values_of(logits: Float[Array, "x y z k"], name: str, temperature: float) -> Array:
    """As `output_of`, before it is stored in few bytes."""
    if name == "probabilities":
        # Where there is no temperature, no runtime need divide.
        return jax.nn.softmax(logits if temperature == NO_TEMPERATURE else logits / temperature)
    classes = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if name == "classes":
        return classes
    # The highest voxel of a column that is not free: no gathering by a computed index.
    height = jnp.arange(1, logits.shape[2] + 1, dtype=jnp.int32)
    code = jnp.where(classes == FREE, FREE, height * _BASE + classes)
    # rem, since `%` compares signs, which TensorRT has no operator for.
    return jax.lax.rem(jnp.max(code, axis=-1), jnp.int32(_BASE))


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    """Share of voxels with the same class."""
    return float(np.mean(np.asarray(found) == np.asarray(wanted)))
