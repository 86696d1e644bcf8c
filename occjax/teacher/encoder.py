"""Encoder: four rounds in which Gaussians look at the images, talk to their neighbours and are refined."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from occjax.teacher.anchors import embed_anchors, means_m
from occjax.teacher.deformable_aggregation import deformable_aggregation
from occjax.teacher.feed_forward import feed_forward
from occjax.teacher.key_points import key_points
from occjax.teacher.layers import Weights, layer_norm
from occjax.teacher.refinement import refine
from occjax.teacher.submanifold_conv import submanifold_block
from occjax.teacher.variants import TeacherVariant


class Scene(NamedTuple):
    """What the encoder looks at: feature maps of all cameras, P3 to P6, and the cropped images' matrices."""

    levels: tuple[Float[Array, "n _ _ c"], ...]
    cropped_from_lidar: Float[Array, "n 4 4"]


class EncoderState(NamedTuple):
    """What a stage passes to the next.

    Attributes:
      features: of the Gaussians.
      anchors: raw, as `anchors.py` reads them.
      most_cameras: the largest number of cameras that saw a key point so far.
    """

    features: Float[Array, "g c"]
    anchors: Float[Array, "g a"]
    most_cameras: Int[Array, ""]


def run_stage(
    operations: tuple[str, ...],
    weights: tuple[Weights, ...],
    embedding_weights: Weights,
    state: EncoderState,
    scene: Scene,
    variant: TeacherVariant,
    cameras_per_point: int,
) -> EncoderState:
    """One stage of `variant.stages`, with an entry of `weights` for each operation."""
    # Once: the stage's last operation makes the anchors that the next stage embeds.
    embedding = embed_anchors(embedding_weights, state.anchors)
    saved = state.features
    for name, its_weights in zip(operations, weights, strict=True):
        if name == "save":
            saved = state.features
        elif name == "add":
            state = state._replace(features=state.features + saved)
        else:
            state = run_operation(name, its_weights, state, embedding, scene, variant, cameras_per_point)
    return state


def run_operation(
    name: str,
    weights: Weights,
    state: EncoderState,
    embedding: Float[Array, "g c"],
    scene: Scene,
    variant: TeacherVariant,
    cameras_per_point: int,
) -> EncoderState:
    """One operation that has weights; all but "refine" make new features."""
    x = state.features
    match name:
        case "deformable":
            points = key_points(weights["key_points"], state.anchors, x, variant)
            reading = deformable_aggregation(
                weights, x + embedding, points, *scene, cameras_per_point=cameras_per_point
            )
            # Version 1 leaves it to the feed-forward block to mix old and new.
            y = reading.features if variant.version == 2 else jnp.concatenate([reading.features, x], axis=-1)
            return state._replace(features=y, most_cameras=jnp.maximum(state.most_cameras, reading.most_cameras))
        case "spconv":
            return state._replace(
                features=submanifold_block(weights, x, means_m(state.anchors), variant.cell_m, variant.dup_mode)
            )
        case "ffn":
            return state._replace(features=feed_forward(weights, x))
        case "norm":
            return state._replace(features=layer_norm(weights, x))
        case "refine":
            return state._replace(anchors=refine(weights, x, embedding, state.anchors, variant))
    raise ValueError(f"the encoder's operations are those of variants.py; found {name!r}")
