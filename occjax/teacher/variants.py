"""The five published configurations of GaussianFormer and GaussianFormer-2, and how a checkpoint tells which it is."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from occjax.errors import UserError
from occjax.grid import VoxelGrid

# The grid of all of them: SurroundOcc's, in the frame of LIDAR_TOP.
GRID = VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, (200, 200, 16))

# Of Gaussians that share a cell of the sparse convolution, the first represents it, or the last; or the first, which
# alone is left of the cell's sum. The published models ran on GPUs, where chance decides (`submanifold_conv.py`).
DuplicateRule = Literal["cpu_first", "cpu_last", "one_of"]

# What the decoder does between two sets of Gaussians. "save" keeps the features and "add" adds what was kept.
_SAVED = ("add", "norm", "save")
V2_STAGE = ("save", "deformable", *_SAVED, "ffn", *_SAVED, "spconv", *_SAVED, "ffn", "add", "norm", "refine")
# In version 1 nothing is added: the feed-forward block carries its input, the sparse convolution replaces it.
V1_FIRST_STAGE = ("deformable", "ffn", "norm", "refine")
V1_STAGE = ("spconv", "norm", *V1_FIRST_STAGE)


class UnknownVariantError(UserError):
    """No published configuration has this name, or none has these shapes."""


@dataclasses.dataclass(frozen=True)
class TeacherVariant:
    """One published configuration.

    Attributes:
      name: as the authors call it, gs and the number of Gaussians.
      version: 1 (Huang et al. 2024) has learned anchors and sums Gaussians; 2 (Huang et al. 2025) lifts most of its
        anchors from the images and treats Gaussians as occupancy probabilities.
      lifted_anchors: anchors placed along pixel rays; 0 in version 1.
      stored_anchors: anchors whose positions come from the checkpoint.
      scale_range_m: smallest and largest standard deviation of a Gaussian along an axis.
      has_opacity: whether anchors have an opacity; without one it is 1.
      semantic_channels: values per anchor; 17 leave out the class free.
      softplus_semantics: whether Gaussians hold softplus of the anchor's values, which makes them positive.
      step_m: (x, y, z), what the refinement moves a Gaussian by at most; in version 1 a quarter of it is a logit.
      learned_points: key points placed by the features, besides seven fixed ones.
      learned_reach: how far they lie from the mean at most, in twice the standard deviation.
      sparse_layers: sparse convolutions with normalisation in a block; 0: a single one, bare.
      sparse_projects: whether a linear layer ends the block.
      cell_m: edge of the sparse convolution's cells.
      scale_multiplier: standard deviations after which a Gaussian is cut off.
      has_empty_gaussian: whether one learned Gaussian over the whole grid stands for free space.
      dup_mode: what becomes of Gaussians that share a cell; a choice of ours, no part of the publication.
    """

    name: str
    version: Literal[1, 2]
    lifted_anchors: int
    stored_anchors: int
    scale_range_m: tuple[float, float]
    has_opacity: bool
    semantic_channels: int
    softplus_semantics: bool
    step_m: tuple[float, float, float]
    learned_points: int
    learned_reach: float
    sparse_layers: int
    sparse_projects: bool
    cell_m: float
    scale_multiplier: int
    has_empty_gaussian: bool
    dup_mode: DuplicateRule = "cpu_first"

    @property
    def num_anchors(self) -> int:
        """Gaussians in all."""
        return self.lifted_anchors + self.stored_anchors

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The decoder's four stages, each a list of operations; their running number is that of `encoder.layers`."""
        return (V2_STAGE,) * 4 if self.version == 2 else (V1_FIRST_STAGE, V1_STAGE, V1_STAGE, V1_STAGE)

    @property
    def value_kind(self) -> Literal["probabilities", "logits"]:
        """What the head's 18 channels are: they sum to 1 in version 2, and want a softmax in version 1."""
        return "probabilities" if self.version == 2 else "logits"

    @property
    def max_radius(self) -> int:
        """Cells that the widest Gaussian reaches from the cell of its mean."""
        # Rounded first: 3.2 * 4 / 0.5 shall be what it is on paper.
        return math.ceil(round(self.scale_range_m[1] * self.scale_multiplier / GRID.voxel_size_m, 6))


_GS25600 = TeacherVariant(
    name="gs25600",
    version=2,
    lifted_anchors=19200,
    stored_anchors=6400,
    scale_range_m=(0.01, 1.8),
    has_opacity=True,
    semantic_channels=17,
    softplus_semantics=False,
    step_m=(4.0, 4.0, 1.0),
    learned_points=6,
    learned_reach=6.0,
    sparse_layers=3,
    sparse_projects=True,
    cell_m=1.0,
    scale_multiplier=4,
    has_empty_gaussian=False,
)
_GS144000 = TeacherVariant(
    name="gs144000",
    version=1,
    lifted_anchors=0,
    stored_anchors=144000,
    scale_range_m=(0.08, 0.32),
    has_opacity=False,
    semantic_channels=18,
    softplus_semantics=False,
    step_m=(2.0, 2.0, 0.5),
    learned_points=2,
    learned_reach=1.0,
    sparse_layers=0,
    sparse_projects=False,
    cell_m=0.5,
    scale_multiplier=3,
    has_empty_gaussian=False,
)
VARIANTS = {
    variant.name: variant
    for variant in (
        _GS25600,
        dataclasses.replace(
            _GS25600, name="gs12800", lifted_anchors=6400, scale_range_m=(0.01, 2.5), scale_multiplier=5
        ),
        dataclasses.replace(
            _GS25600, name="gs6400", lifted_anchors=4000, stored_anchors=2400, scale_range_m=(0.01, 3.2)
        ),
        _GS144000,
        dataclasses.replace(
            _GS144000,
            name="gs25600_solid",
            stored_anchors=25600,
            scale_range_m=(0.08, 0.64),
            has_opacity=True,
            semantic_channels=17,
            softplus_semantics=True,
            step_m=(4.0, 4.0, 1.0),
            sparse_projects=True,
            has_empty_gaussian=True,
        ),
    )
}


def variant_named(name: str) -> TeacherVariant:
    """The configuration of that name; raises UnknownVariantError."""
    if name not in VARIANTS:
        raise UnknownVariantError(f"no published teacher is called {name!r}; choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def variant_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> TeacherVariant:
    """The configuration whose anchors have the shapes of a checkpoint.

    Scales and cut-offs are in no checkpoint, but the numbers of anchors, lifted and stored, tell the five apart.

    Args:
      shapes: by the checkpoint's names.

    Raises:
      UnknownVariantError: no published configuration has such anchors.
    """
    found = tuple(shapes.get(key) for key in ("lifter.anchor", "lifter.random_anchors"))
    for variant in VARIANTS.values():
        if found == anchor_shapes(variant):
            return variant
    raise UnknownVariantError(
        f"lifter.anchor is {found[0]} and lifter.random_anchors {found[1]}, as in none of {', '.join(VARIANTS)}; "
        "only the published configurations can be told from a checkpoint"
    )


def anchor_shapes(variant: TeacherVariant) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Shapes of lifter.anchor and lifter.random_anchors; version 1 has no second one."""
    if variant.version == 1:
        return (variant.stored_anchors, 28), None
    # A lifted anchor's position comes from its pixel: three values less.
    return (variant.lifted_anchors, 25), (variant.stored_anchors, 28)
