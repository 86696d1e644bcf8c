"""Sections of the configuration that weigh the loss terms, and how a term is declared."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal


def term_weight(default: float, *terms: str):
    """A field that weighs loss terms: those named, or the one that is called like the field."""
    return field(default=default, metadata={"terms": terms})


@dataclass
class LossWeights:
    """What a section of loss weights knows about itself: a term is declared by its weight's field, and nowhere else."""

    @classmethod
    def weight_fields(cls) -> dict[str, tuple[str, ...]]:
        """Name of each field that is a weight, and the terms that it weighs, as they are logged."""
        # A field without `terms` is a setting, one with empty ones a weight of its own name.
        declared = ((f.name, f.metadata.get("terms")) for f in dataclasses.fields(cls))
        return {name: terms or (name,) for name, terms in declared if terms is not None}

    def weights(self) -> dict[str, float]:
        """Weight of each term by the name it is logged under, in the order of the fields."""
        return {term: getattr(self, name) for name, terms in self.weight_fields().items() for term in terms}


@dataclass
class DistillConfig(LossWeights):
    """Weights of the distillation terms, which `losses.distillation` computes by these names; 0 leaves a term out.

    Attributes:
      voxel_kl: KL of the teacher's class distribution and the student's, voxel by voxel.
      bev_kl: the same, column by column from above.
      channel_wise: KL over the voxels, class by class.
      bev_feature: a 1x1 adapter of the student's BEV features against the teacher's BEV map.
      temperature: both sides are softened by it.
      free_share: of the voxel KL that free space may have: voxels the teacher calls free are weighted down to it.
      use_camera_mask: distil those voxels of Occ3D only that the cameras see, and columns from these voxels alone. A
        teacher's own BEV map says nothing of single voxels: it counts where the cameras see any voxel of the column.
    """

    voxel_kl: float = term_weight(0.0)
    bev_kl: float = term_weight(0.0)
    channel_wise: float = term_weight(0.0)
    bev_feature: float = term_weight(0.0)
    temperature: float = 2.0  # softened, the tail that the teacher gives to other classes is heard
    free_share: float = 0.3  # nine voxels in ten are free, and would have nine tenths of the loss
    use_camera_mask: bool = True  # as supervision: elsewhere nobody checks the student, nor was the teacher checked

    @property
    def is_on(self) -> bool:
        """Whether any term has a weight, so that training needs a teacher."""
        return any(weight > 0 for weight in self.weights().values())

    def switch_off(self) -> None:
        """Sets every weight to 0."""
        for name in self.weight_fields():
            setattr(self, name, 0.0)


@dataclass
class LossConfig(LossWeights):
    """Weights of the supervised terms, which `losses.total` computes; 0 leaves a term out. And how they count.

    Attributes:
      cross_entropy: over the voxels that the label set counts.
      class_balanced: it weighs classes by 1 / log(frequency + 0.001), mean 1 over the classes that count; or all alike.
      class_counts: frequencies behind them: "labels" = counted over the training labels on the model's grid; "occ3d" =
        as published for Occ3D, whatever the labels are (the PyTorch original).
      scene_class_affinity: semantic and geometric.
      lovasz: Lovász-softmax.
      depth: binary cross-entropy of the depth bins against LiDAR.
      use_camera_mask: train on those voxels of Occ3D only that the cameras see.
      distill: weights of the terms that need a teacher.
    """

    cross_entropy: float = term_weight(1.0)
    class_balanced: bool = True
    class_counts: Literal["labels", "occ3d"] = "labels"
    # Its gradient is the largest at first; yet of a tenth the quickstart learns less: over classes present 18.4 ± 0.4
    # against 19.6 ± 0.4, cars 9 against 21 (three seeds each).
    scene_class_affinity: float = term_weight(1.0, "semantic_affinity", "geometric_affinity")
    lovasz: float = term_weight(1.0)
    depth: float = term_weight(3.0)  # as the PyTorch original weighs it
    use_camera_mask: bool = True
    distill: DistillConfig = field(default_factory=DistillConfig)
