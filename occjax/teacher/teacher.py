"""Teacher: the lines that take six images to a distribution over classes in every voxel, in order."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float16, Shaped, UInt8

from occjax.errors import UserError
from occjax.teacher.anchors import gaussians_of_anchors
from occjax.teacher.checkpoint import weights_from_checkpoint
from occjax.teacher.draws import Draws
from occjax.teacher.encoder import EncoderState, Scene, run_stage
from occjax.teacher.layers import Weights
from occjax.teacher.lifter import DepthMode, Lifted, depth_logits, lift
from occjax.teacher.necks import depth_features, feature_pyramid
from occjax.teacher.outputs import half_precision
from occjax.teacher.preprocess import RECORDED_HEIGHT, RECORDED_WIDTH, cropped_from_lidar, network_input
from occjax.teacher.resnet import resnet
from occjax.teacher.splat import logits, probabilities
from occjax.teacher.variants import DuplicateRule, TeacherVariant

# What the six cameras of nuScenes come to: neighbours overlap, no three do.
CAMERAS_PER_POINT = 2


class ImageFeatures(NamedTuple):
    """What is read from the images, whatever is drawn afterwards.

    Attributes:
      levels: maps of all cameras, P3 to P6.
      depth_logits: in version 2.
    """

    levels: tuple[Float[Array, "n _ _ c"], ...]
    depth_logits: Float[Array, "n h w d"] | None


class TeacherOutput(NamedTuple):
    """What the teacher says of a sample, on `variants.GRID` in the frame of LIDAR_TOP.

    Attributes:
      values: probabilities or logits, by `variant.value_kind`, the class free last.
      values_float32: before they were rounded, to average several draws.
      density: Σ of the Gaussians' values in a voxel; zeros in version 1.
      candidates: points that the lifter chose from; 0 means that no pixel gave one, and that anchors stand where
        stored ones do. Version 1 has none.
    """

    values: Float16[Array, "x y z k"]
    values_float32: Float[Array, "x y z k"]
    density: Float[Array, "x y z"]
    candidates: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A published teacher with its weights; runs where `params` lie.

    Attributes:
      variant: which one.
      params: weights, as `checkpoint.weights_from_checkpoint` nests them.
      depth_mode: "drawn", as published, or "argmax", which draws no depths.
    """

    variant: TeacherVariant
    params: Weights
    depth_mode: DepthMode = "drawn"

    def __call__(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        pixel_from_lidar: Float[np.ndarray, "n 4 4"],
        draws: Draws,
    ) -> TeacherOutput:
        """The output for one sample.

        Args:
          images: RGB as recorded, the cameras in the order of `config.NUSCENES_CAMERAS`.
          pixel_from_lidar: of the recorded images, through the ego poses of camera and lidar.
          draws: of `draws_for`.

        Raises:
          UserError: images of another size.
        """
        return self.occupancy(self.image_features(images), pixel_from_lidar, draws)

    def image_features(self, images: UInt8[np.ndarray, "n h w 3"]) -> ImageFeatures:
        """What does not depend on the draws, and takes most of the time; raises UserError on images of another size."""
        if images.shape[1:] != (RECORDED_HEIGHT, RECORDED_WIDTH, 3):
            raise UserError(
                f"the teacher reads images as nuScenes records them, {RECORDED_HEIGHT} x {RECORDED_WIDTH} x 3; found "
                f"{' x '.join(map(str, images.shape[1:]))}; give the recorded ones"
            )
        # Camera by camera: the maps of six at once are gigabytes.
        looked = [look(self.params["images"], images[n : n + 1]) for n in range(len(images))]
        levels = tuple(jnp.concatenate(maps) for maps in zip(*looked, strict=True))
        if self.variant.version == 1:
            return ImageFeatures(levels, None)
        depth = [look_for_depth(self.params["depth"], images[n : n + 1]) for n in range(len(images))]
        return ImageFeatures(levels, jnp.concatenate(depth))

    def occupancy(
        self, features: ImageFeatures, pixel_from_lidar: Float[np.ndarray, "n 4 4"], draws: Draws
    ) -> TeacherOutput:
        """The output for images that were looked at."""
        matrices = cropped_from_lidar(pixel_from_lidar)
        anchors, candidates = self.params["anchors"].get("stored"), None
        if features.depth_logits is not None:
            # On the host: float64 costs nothing there.
            inverse = np.linalg.inv(matrices.astype(np.float64)).astype(np.float32)
            lifted = lift_anchors(self.params["anchors"], features.depth_logits, inverse, *draws, mode=self.depth_mode)
            anchors, candidates = lifted.anchors, lifted.candidates
        scene, room = Scene(features.levels, jnp.asarray(matrices)), CAMERAS_PER_POINT
        while True:
            state = EncoderState(self.params["anchors"]["features"], anchors, jnp.zeros((), jnp.int32))
            for operations, weights in zip(self.variant.stages, self.params["stages"], strict=True):
                state = encode(
                    operations,
                    weights,
                    self.params["embedding"],
                    state,
                    scene,
                    variant=self.variant,
                    cameras_per_point=room,
                )
            values, density = voxelize(state.anchors, self.params.get("empty_value"), variant=self.variant)
            # Read when everything is under way: the host waits here.
            if (most := int(state.most_cameras)) <= room:
                break
            # On a rig whose cameras overlap more, points were not seen by all: once more, with room for them.
            room = most
        return TeacherOutput(half_precision(values), values, density, None if candidates is None else int(candidates))


def load_teacher(
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    variant_name: str | None = None,
    *,
    depth_mode: DepthMode = "drawn",
    backbone_dtype: str = "float32",
    dup_mode: DuplicateRule = "cpu_first",
) -> Teacher:
    """The teacher of a checkpoint.

    Args:
      arrays: all of its entries by name.
      variant_name: which published configuration it must be; None takes the one that has its shapes.
      depth_mode: see `Teacher`.
      backbone_dtype: of the backbones' convolutions; "bfloat16" halves their time on an accelerator.
      dup_mode: see `TeacherVariant`.

    Raises:
      CheckpointError: entries are missing, unexpected, mis-shaped or not finite; lists all of it.
      UnknownVariantError: no published configuration has this name, or these shapes.
    """
    variant, params = weights_from_checkpoint(arrays, variant_name, backbone_dtype=backbone_dtype)
    variant = dataclasses.replace(variant, dup_mode=dup_mode)
    return Teacher(variant, jax.tree.map(jnp.asarray, params), depth_mode)


@jax.jit
def look(weights: Weights, images: UInt8[Array, "b 900 1600 3"]) -> tuple[Float[Array, "b _ _ c"], ...]:
    """The maps that Gaussians read."""
    return feature_pyramid(weights["neck"], resnet(weights["backbone"], network_input(images)))


@jax.jit
def look_for_depth(weights: Weights, images: UInt8[Array, "b 900 1600 3"]) -> Float[Array, "b h w d"]:
    """Depth logits, from a backbone of their own."""
    features = depth_features(weights["neck"], resnet(weights["backbone"], network_input(images)))
    return depth_logits(weights["logits"], features)


@partial(jax.jit, static_argnames="mode")
def lift_anchors(weights: Weights, logits, lidar_from_cropped, u, jitter, *, mode: DepthMode) -> Lifted:
    """`lifter.lift`, compiled."""
    return lift(weights, logits, lidar_from_cropped, u, jitter, mode=mode)


@partial(jax.jit, static_argnums=0, static_argnames=("variant", "cameras_per_point"))
def encode(operations, weights, embedding, state, scene, *, variant, cameras_per_point) -> EncoderState:
    """`encoder.run_stage`, compiled: once for all stages that are alike."""
    return run_stage(operations, weights, embedding, state, scene, variant, cameras_per_point)


@partial(jax.jit, static_argnames="variant")
def voxelize(
    anchors: Float[Array, "g c"], empty_value: Float[Array, ""] | None, *, variant: TeacherVariant
) -> tuple[Float[Array, "x y z k"], Float[Array, "x y z"]]:
    """Values of all voxels, and their density."""
    gaussians = gaussians_of_anchors(anchors, variant)
    if variant.version == 2:
        found = probabilities(gaussians, variant)
        return found.values, found.density
    values = logits(gaussians, variant, empty_value)
    return values, jnp.zeros(values.shape[:-1])
