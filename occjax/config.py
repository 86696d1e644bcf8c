"""The typed configuration behind configs/: every field with its default, in the order of the data flow."""

import dataclasses
from dataclasses import dataclass, field

from occjax.grid import VoxelGrid

NUSCENES_CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)


@dataclass
class GridConfig:
    """The model's voxel grid; labels and teacher must lie on it or on a grid that it is an aligned crop of."""

    frame: str = "lidar"
    lower_m: tuple[float, ...] = (-50.0, -50.0, -5.0)
    voxel_size_m: float = 0.5
    shape: tuple[int, ...] = (200, 200, 16)

    def build(self) -> VoxelGrid:
        return VoxelGrid(self.frame, tuple(self.lower_m), self.voxel_size_m, tuple(self.shape))


@dataclass
class SyntheticConfig:
    """A procedural city, written as a nuScenes root into data.root when that folder does not exist yet."""

    enabled: bool = False
    seed: int = 0
    train_scenes: int = 4
    val_scenes: int = 2
    keyframes_per_scene: int = 4
    image_width: int = 1600
    image_height: int = 900


@dataclass
class DataConfig:
    root: str = "data/nuscenes"
    version: str = "v1.0-trainval"
    # JSON {"train": [scene names], "val": [...]}; empty = <root>/splits.json if there is one, else the official splits.
    splits_file: str = ""
    train_split: str = "train"
    val_split: str = "val"
    cameras: tuple[str, ...] = NUSCENES_CAMERAS
    image_height: int = 480
    image_width: int = 640
    # "surroundocc" (LiDAR frame, class 0 ignored) or "occ3d" (ego frame, camera mask).
    labels: str = "surroundocc"
    # Empty = <root>/surroundocc or <root>/gts.
    labels_dir: str = ""
    # Folder of teacher files made by converters/teacher_to_npz.py; empty = no teacher.
    teacher_dir: str = ""
    # Folder of records made by converters/pack.py, which then hold all that is otherwise read from images, sweeps,
    # labels and teacher files; empty = read those. The tables stay in data.root, and teacher_dir still says whether the
    # teacher is read.
    records_dir: str = ""
    # Folder for the index file; empty = <root>/occjax_index, or the workdir where the root cannot be written.
    index_dir: str = ""
    batch_size: int = 1  # samples per step over all devices and hosts
    workers: int = 4  # loader processes; 0 = load in the main process
    prefetch: int = 2  # batches that each worker keeps ready
    shuffle_seed: int = 0
    # What a training sample that cannot be read does: "raise" ends the run; "skip" takes the next readable sample of
    # the split in its place, and logs it. Evaluation never skips, and files that are absent at the start always end it.
    on_error: str = "raise"
    max_skipped: int = 10  # distinct samples that a process may skip before the run ends all the same
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class AugmentConfig:
    """Ranges of the training augmentation; images, matrices, depth, labels and teacher move together."""

    image_scale: tuple[float, ...] = (1.0, 1.0)  # on top of the plain resize
    image_rotate_deg: float = 0.0
    image_flip: bool = False
    bev_rotate_deg: float = 0.0
    bev_scale: tuple[float, ...] = (1.0, 1.0)
    bev_flip_x: bool = False
    bev_flip_y: bool = False
    photometric: bool = True  # brightness, contrast, saturation, hue, channel swap; on the device


@dataclass
class BackboneConfig:
    depth: int = 50  # ResNet 18, 34 or 50
    width: int = 64  # channels of the stem
    # ResNet weights made by converters/weights_from_torch.py --kind=resnet; empty = random.
    weights: str = ""
    frozen_stages: int = 0  # 1 = stem, 2 = stem and layer1, ...; frozen stages do not train
    frozen_batch_norm: bool = False  # the backbone's BatchNorm keeps its running statistics


@dataclass
class DepthConfig:
    min_m: float = 0.5
    max_m: float = 45.0
    bins: int = 88
    channels: int = 256
    dropout: float = 0.5


@dataclass
class ViewTransformConfig:
    channels: int = 128
    # "sum" keeps depth confidence; "mean" divides by depth mass (the PyTorch original).
    splat: str = "sum"


@dataclass
class BevEncoderConfig:
    stage_channels: tuple[int, ...] = (128, 256, 512)
    blocks_per_stage: int = 2
    neck_channels: int = 512
    out_channels: int = 256


@dataclass
class HeadConfig:
    channels: int = 256
    hidden: int = 512


@dataclass
class ModelConfig:
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fpn_channels: int = 256
    depth: DepthConfig = field(default_factory=DepthConfig)
    view_transform: ViewTransformConfig = field(default_factory=ViewTransformConfig)
    bev_encoder: BevEncoderConfig = field(default_factory=BevEncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    # Compute dtype of convolutions: "float32" or "bfloat16"; parameters, softmax and losses stay float32.
    compute_dtype: str = "float32"
    # Recompute backbone activations in the backward pass: less memory, more time.
    remat_backbone: bool = False


def term_weight(default: float, *terms: str):
    """A field that weighs loss terms: those named, or the one that is called like the field."""
    return field(default=default, metadata={"terms": terms})


class LossWeights:
    """What a section of loss weights knows about itself: a term is declared by its weight's field, and nowhere else."""

    @classmethod
    def weight_fields(cls) -> dict[str, tuple[str, ...]]:
        """Name of each field that is a weight, and the terms that it weighs, as they are logged."""
        declared = ((f.name, f.metadata.get("terms")) for f in dataclasses.fields(cls))
        return {name: terms or (name,) for name, terms in declared if terms is not None}

    def weights(self) -> dict[str, float]:
        """Weight of each term by the name it is logged under, in the order of the fields."""
        return {term: getattr(self, name) for name, terms in self.weight_fields().items() for term in terms}


@dataclass
class DistillConfig(LossWeights):
    """Weights of the distillation terms, which `losses.distillation` computes by these names; 0 leaves a term out."""

    voxel_kl: float = term_weight(0.0)
    bev_kl: float = term_weight(0.0)
    channel_wise: float = term_weight(0.0)
    bev_feature: float = term_weight(0.0)
    temperature: float = 2.0
    # Share of the voxel KL that free space may claim: voxels the teacher calls free are weighted down to it.
    free_share: float = 0.3

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
    """Weights of the supervised terms, which `losses.total` computes; 0 leaves a term out. And how they count."""

    cross_entropy: float = term_weight(1.0)
    # Class weights 1 / log(frequency + 0.001), normalised to mean 1 over the classes that count; or uniform.
    class_balanced: bool = True
    # Frequencies behind them: "labels" = counted over the training labels on the model's grid; "occ3d" = as published
    # for Occ3D, whatever the labels are (the PyTorch original).
    class_counts: str = "labels"
    scene_class_affinity: float = term_weight(1.0, "semantic_affinity", "geometric_affinity")
    lovasz: float = term_weight(1.0)
    depth: float = term_weight(3.0)
    # Train on Occ3D voxels that the cameras see only.
    use_camera_mask: bool = True
    distill: DistillConfig = field(default_factory=DistillConfig)


@dataclass
class TrainConfig:
    seed: int = 0
    steps: int = 0  # 0 = epochs * samples // batch
    epochs: int = 24
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_steps: int = 200
    warmup_factor: float = 0.001
    clip_norm: float = 5.0
    accumulate_steps: int = 1  # micro-batches per update
    ema_decay: float = 0.999
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    # Steps between validations; 0 = at every epoch's end, or every checkpoint_every steps where epochs are shorter.
    eval_every: int = 0


@dataclass
class EvalConfig:
    weights: str = "ema"  # "ema" or "raw"
    batch_size: int = 1
    pictures: int = 4
    max_samples: int = 0  # 0 = the whole split


@dataclass
class Config:
    name: str = "base"
    grid: GridConfig = field(default_factory=GridConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)
