"""Configuration of a run, typed: every section and field with its default, in the order of the data flow."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_origin, get_type_hints

# Under their own names again, so that every section is imported from here.
from occjax.config_loss import DistillConfig as DistillConfig
from occjax.config_loss import LossConfig as LossConfig
from occjax.config_loss import LossWeights as LossWeights
from occjax.config_loss import term_weight as term_weight
from occjax.config_model import RANDOM as RANDOM
from occjax.config_model import BackboneConfig as BackboneConfig
from occjax.config_model import BevEncoderConfig as BevEncoderConfig
from occjax.config_model import DepthConfig as DepthConfig
from occjax.config_model import HeadConfig as HeadConfig
from occjax.config_model import ModelConfig as ModelConfig
from occjax.config_model import ViewTransformConfig as ViewTransformConfig
from occjax.grid import VoxelGrid

NUSCENES_CAMERAS = (
    *("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"),
    *("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
)


@dataclass
class GridConfig:
    """The model's voxel grid: an aligned crop of those of labels and teacher, or whole blocks of their voxels, pooled.

    Attributes:
      frame: of the axes: "lidar" (x right, y forward; SurroundOcc, the teacher) or "ego" (x forward, y left; Occ3D).
      lower_m: x, y and z of the lower corner, metres.
      voxel_size_m: edge of a voxel, metres.
      shape: voxels along x, y and z.
    """

    frame: Literal["lidar", "ego"] = "lidar"
    lower_m: tuple[float, float, float] = (-50.0, -50.0, -5.0)  # SurroundOcc's grid, which the teacher's dumps lie on
    voxel_size_m: float = 0.5
    shape: tuple[int, int, int] = (200, 200, 16)

    def build(self) -> VoxelGrid:
        """The grid as a value; raises ValueError where the numbers make none."""
        return VoxelGrid(self.frame, (*self.lower_m,), self.voxel_size_m, (*self.shape,))


@dataclass
class SyntheticConfig:
    """A procedural city, written as a nuScenes root into data.root when that folder does not exist yet.

    Attributes:
      enabled: whether a run makes it.
      seed: another seed gives another city.
      train_scenes, val_scenes: drives through it.
      keyframes_per_scene: half a second apart.
      image_width, image_height: of the camera images, pixels; those of nuScenes by default.
    """

    enabled: bool = False
    seed: int = 0
    train_scenes: int = 4
    val_scenes: int = 2
    keyframes_per_scene: int = 4
    image_width: int = 1600
    image_height: int = 900


@dataclass
class DataConfig:
    """Where the samples are, which of them are read, and how they are loaded.

    Attributes:
      root: the nuScenes folder: samples/ and the tables of `version`.
      version: of the tables; their folder's name.
      splits_file: JSON {"train": [scene names], "val": [...]}; empty = <root>/splits.json if there is one, else the
        official splits.
      train_split, val_split: names of the splits to train and to evaluate on.
      cameras: channels, in the order of the model's input.
      lidar_channel: whose keyframes time the samples and whose frame grid.frame="lidar" is.
      image_height, image_width: of the model's input, pixels; multiples of 16.
      labels: label set: "surroundocc" (LiDAR frame, class 0 ignored) or "occ3d" (ego frame, camera mask).
      labels_dir: their folder; empty = the label set's usual one in `root`, surroundocc or gts.
      teacher_dir: folder of teacher files, made by occjax convert-teacher; empty = no teacher.
      records_dir: folder of records, made by occjax pack, which then hold all that is otherwise read from
        images, sweeps, labels and teacher files; empty = read those. The tables stay in `root`, and `teacher_dir` still
        says whether the teacher is read.
      index_dir: folder for the index file; empty = <root>/occjax_index, or the workdir where `root` cannot be written.
      batch_size: samples per step over all devices and hosts.
      workers: loader processes; 0 = load in the main process.
      prefetch: batches that each worker keeps ready.
      shuffle_seed: of the order of the training samples and of their augmentation.
      on_error: what a training sample that cannot be read does: "raise" ends the run; "skip" takes the next readable
        sample of the split in its place, and logs it. Evaluation never skips, and files that are absent at the start
        always end it.
      max_skipped: distinct samples that a process may skip before the run ends all the same.
      synthetic: a generated city in the place of nuScenes.
    """

    root: str = "data/nuscenes"
    version: str = "v1.0-trainval"
    splits_file: str = ""
    train_split: str = "train"
    val_split: str = "val"
    cameras: tuple[str, ...] = NUSCENES_CAMERAS
    lidar_channel: str = "LIDAR_TOP"
    image_height: int = 480  # 16:9 images are squeezed to 4:3, and nothing of the road is cut off
    image_width: int = 640
    labels: str = "surroundocc"
    labels_dir: str = ""
    teacher_dir: str = ""
    records_dir: str = ""
    index_dir: str = ""
    batch_size: int = 1  # fits everywhere; raise it together with the learning rate
    workers: int = 4
    prefetch: int = 2
    shuffle_seed: int = 0
    on_error: Literal["raise", "skip"] = "raise"
    max_skipped: int = 10  # a few damaged files are bad luck, more are a disk that fails
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class AugmentConfig:
    """Ranges of the training augmentation; images, matrices, depth, labels and teacher move together.

    Attributes:
      image_scale: smallest and largest factor on top of the plain resize.
      image_rotate_deg: largest turn of an image about its centre, either way.
      image_flip: half of the images are mirrored left to right.
      bev_rotate_deg: largest turn of the scene about the grid's z axis, either way.
      bev_scale: smallest and largest factor on the scene along x and y; heights stay.
      bev_flip_x, bev_flip_y: half of the scenes are mirrored along that axis of the grid.
      photometric: brightness, contrast, saturation, hue and channel order vary; on the device.
    """

    image_scale: tuple[float, ...] = (1.0, 1.0)
    image_rotate_deg: float = 0.0
    image_flip: bool = False
    bev_rotate_deg: float = 0.0
    bev_scale: tuple[float, ...] = (1.0, 1.0)
    bev_flip_x: bool = False
    bev_flip_y: bool = False
    photometric: bool = True  # it needs no matrix, label or teacher to move along, so it is always safe


@dataclass
class TrainConfig:
    """How long and how fast the student learns, and what is kept of it.

    Attributes:
      seed: of the initial weights, dropout and colours.
      steps: updates; 0 = epochs * samples // batch.
      epochs: passes over the training split, where `steps` does not say.
      learning_rate: largest one, of AdamW; it warms up to it and falls to zero as a cosine.
      weight_decay: of kernels; biases and normalisation have none.
      warmup_steps: updates until then.
      warmup_factor: share of the learning rate at the first of them.
      clip_norm: largest norm of the gradient.
      accumulate_steps: micro-batches that a batch is cut into, to save memory. It does not do what the whole batch at
        once would: BatchNorm's statistics, Lovász and the affinity terms are those of each micro-batch, and only
        their gradients are averaged.
      ema_samples: about how many of the last samples the averaged weights remember; the decay per update is
        1 - batch_size / ema_samples.
      log_every: steps between lines of the log.
      checkpoint_every: steps between checkpoints; 0 = none by steps.
      checkpoint_minutes: a checkpoint also where the last one is so old; 0 = none by the clock, but not both.
      keep_checkpoints: newest ones that stay; the best one stays beside them.
      eval_every: steps between validations; 0 = at every epoch's end, or every checkpoint_every steps where epochs are
        shorter.
    """

    seed: int = 0
    steps: int = 0
    epochs: int = 24
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_steps: int = 200
    warmup_factor: float = 0.001  # hardly any: Adam's second moments know nothing yet
    clip_norm: float = 5.0
    accumulate_steps: int = 1
    ema_samples: int = 8000  # in samples, so that the average fits every batch: 0.999 per update at batch 8
    log_every: int = 10
    checkpoint_every: int = 500
    checkpoint_minutes: float = 15.0
    keep_checkpoints: int = 3
    eval_every: int = 0


@dataclass
class EvalConfig:
    """What is evaluated, in validation and by --mode=eval.

    Attributes:
      weights: "ema" = averaged over the training, "raw" = as the last step left them.
      batch_size: samples at once over all devices, rounded up to a multiple of their number. Beside the features of its
        images, a sample of full size holds 46 MB of logits and as much of log-probabilities.
      pictures: samples drawn, evenly spread over the split.
      max_samples: of the split, from its beginning; 0 = all.
    """

    weights: Literal["ema", "raw"] = "ema"
    batch_size: int = 4
    pictures: int = 4
    max_samples: int = 0


@dataclass
class Config:
    """A run: its data, model, losses and schedule, and the name it goes by in metrics.json."""

    name: str = "base"
    grid: GridConfig = field(default_factory=GridConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    @property
    def ema_decay(self) -> float:
        """Share of the averaged weights that stays at each update, 0 where a batch is all that they remember."""
        return max(0.0, 1 - self.data.batch_size / self.train.ema_samples)

    def to_dict(self) -> dict:
        """Nested dicts of plain values."""
        return dataclasses.asdict(self)


def closed_sets(section: type = Config, prefix: str = "") -> dict[str, object]:
    """The annotation Literal[...] of each field that takes one of a few values, by its dotted path."""
    found = {}
    for name, kind in get_type_hints(section).items():
        if dataclasses.is_dataclass(kind):
            found |= closed_sets(kind, f"{prefix}{name}.")
        elif get_origin(kind) is Literal:
            found[prefix + name] = kind
    return found
