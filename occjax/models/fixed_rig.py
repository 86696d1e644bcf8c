"""Student for one rig that does not move: geometry, camera gates and BatchNorm become constants."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from occjax.models.depth_net import camera_vector
from occjax.models.gather_splat import SplatPlan, gather_splat, plan_splat
from occjax.models.layers import BatchNorm, ConvNorm
from occjax.models.resized_conv import ResizedConvNorm
from occjax.models.student import STRIDE, Student
from occjax.models.view_transform import depth_centers_m, lift_cells
from occjax.types import CameraRig


class FixedRig(NamedTuple):
    """What a student has to know of a rig.

    Attributes:
      context_gate, depth_gate: float32 [N, C].
      plan: which point falls into which cell.
    """

    context_gate: Array
    depth_gate: Array
    plan: SplatPlan


def fix_rig(
    student: Student, rig: CameraRig, image_size: tuple[int, int]
) -> tuple[FixedRig, Bool[np.ndarray, "n cells"]]:
    """The constants of a rig, and which BEV cells have a point of each camera.

    Args:
      student: whose gates and grid count.
      rig: one sample, with all cameras present.
      image_size: (height, width) of the network's input.
    """
    transform = student.view_transform
    feature_size = (image_size[0] // STRIDE, image_size[1] // STRIDE)

    # In one program: operation by operation, each would be compiled apart.
    @jax.jit
    def gates_and_cells(rig: CameraRig):
        cells = lift_cells(rig, image_size, feature_size, depth_centers_m(transform.depth), transform.grid)
        return student.depth_net.gates(camera_vector(rig), train=False), cells

    (context_gate, depth_gate), cells = gates_and_cells(rig)
    num_cells = transform.grid.shape[0] * transform.grid.shape[1]
    cells = np.asarray(cells[0])
    covers = np.zeros((len(cells), num_cells + 1), bool)
    for camera, its_cells in enumerate(cells):
        covers[camera, its_cells] = True
    return FixedRig(context_gate, depth_gate, plan_splat(cells, num_cells)), covers[:, :num_cells]


def fixed_rig_logits(
    student: Student, images: Float[Array, "1 n h w 3"], fixed: FixedRig, is_present: Bool[Array, "n"] | None = None
) -> Float[Array, "1 x y z k"]:
    """Voxel logits of normalised images, as a call of the student in evaluation gives them.

    Cameras that are not present put nothing on the grid; None = all are.
    """
    return student.head.logits(fixed_rig_columns(student, images, fixed, is_present))


def fixed_rig_columns(
    student: Student, images: Float[Array, "1 n h w 3"], fixed: FixedRig, is_present: Bool[Array, "n"] | None = None
) -> Float[Array, "1 x y c"]:
    """As `fixed_rig_logits`, all but the head's last layer."""
    features = student.image_features(images, train=False)
    depth_logits, context = student.depth_net.from_gates(features, fixed.context_gate, fixed.depth_gate, train=False)
    transform = student.view_transform

    def sum_per_cell(values, weights):
        if is_present is not None:
            weights = weights * is_present[:, None, None, None]
        return gather_splat(values, weights, fixed.plan)

    lifted = transform.lifted(context[None], depth_logits[None], sum_per_cell)
    return student.head.columns(student.bev_features(transform.refine(lifted), train=False))


class _Folded(nnx.Module):
    """What is left of a BatchNorm whose scale is in the kernel before it."""

    def __init__(self, shift: Float[Array, "c"], dtype):
        self.shift, self.dtype = nnx.Param(shift), dtype

    def __call__(self, x: Float[Array, "b *axes c"], *, train: bool) -> Float[Array, "b *axes c"]:
        return (x + self.shift[...]).astype(self.dtype)

    def running_scale_shift(self) -> tuple[None, Float[Array, "c"]]:
        """As BatchNorm's: nothing is left to multiply by."""
        return None, self.shift[...]


def fold_batch_norm(student: Student) -> None:
    """Multiplies the kernels by the scale of the BatchNorm behind them, in place; the student only evaluates then."""
    for _, module in nnx.iter_graph(student):
        if isinstance(module, ConvNorm | ResizedConvNorm) and isinstance(module.norm, BatchNorm):
            scale, shift = module.norm.running_scale_shift()
            module.conv.kernel[...] = module.conv.kernel[...] * scale
            module.norm = _Folded(shift, module.norm.dtype)  # pyrefly: ignore[bad-assignment]


def padded_max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """As `occjax.models.resnet.max_pool` of what is 0 or more, in the spelling that converters to ONNX understand."""
    # Padded apart: jax2onnx loses the padding of a pool.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return nnx.max_pool(padded, window_shape=(3, 3), strides=(2, 2), padding="VALID")
