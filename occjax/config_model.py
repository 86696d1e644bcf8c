"""Sections of the configuration that describe the student, in the order of its stages."""

from dataclasses import dataclass, field
from typing import Literal

RANDOM = "random"  # in the place of a file of weights


@dataclass
class BackboneConfig:
    """The ResNet that looks at every image.

    Attributes:
      depth: number of layers; no published weights have 10, which is for trials.
      width: channels of the stem; 64 in the published networks.
      weights: what it starts from: a file made by occjax convert-weights --kind=resnet, or "random".
      frozen_stages: that do not train: 1 = stem, 2 = stem and layer1, ...
      frozen_batch_norm: its BatchNorm keeps its running statistics.
    """

    depth: Literal[10, 18, 34, 50] = 50
    width: int = 64
    weights: str = RANDOM
    frozen_stages: int = 0
    frozen_batch_norm: bool = False


@dataclass
class DepthConfig:
    """The depth net: a distribution over distances, and a feature vector, for every feature pixel.

    Attributes:
      min_m, max_m: range of the distances along the camera's axis, metres.
      bins: that the range is cut into.
      channels: of its hidden layers.
      dropout: share of the ASPP's outputs that are dropped in training.
      camera_norm: what the camera numbers are divided by: "fixed" units, or "batch" statistics (the PyTorch original,
        for imported weights; with one sample per batch, evaluation then meets inputs of hundreds of sigma).
    """

    min_m: float = 0.5
    # Of the cells of SurroundOcc's grid, a nuScenes rig reaches 81 % with these, and no more than 83 % farther out; to
    # 45 m it is 63 %. Bins as wide as a voxel: at 0.6 m, one near cell in twenty gets no point.
    max_m: float = 60.0
    bins: int = 119
    channels: int = 256
    dropout: float = 0.5
    # Numbers that all cameras of a sample share have no variance in a batch of one, so BatchNorm would hide them in
    # training and blow them up in evaluation.
    camera_norm: Literal["fixed", "batch"] = "fixed"


@dataclass
class ViewTransformConfig:
    """The way from feature pixels into the bird's-eye view.

    Attributes:
      channels: of the BEV features.
      cell_voxels: edge of a BEV cell in voxels. At 2, all from here to the head costs a quarter; the head gives each of
        a cell's columns channels of its own.
      splat: "sum" keeps depth confidence; "mean" divides by depth mass (the PyTorch original).
    """

    channels: int = 128
    cell_voxels: int = 1
    # The sum tells a cell that many points agree on from one that a single stray point fell into.
    splat: Literal["sum", "mean"] = "sum"


@dataclass
class BevEncoderConfig:
    """The residual network over the BEV features, and the neck that joins its finest and coarsest stage.

    Attributes:
      stage_channels: of each stage; every one halves the resolution.
      blocks_per_stage: residual blocks.
      neck_channels: where the stages are joined.
      out_channels: of the BEV features that the head gets, one vector for each BEV cell.
    """

    stage_channels: tuple[int, ...] = (128, 256, 512)
    blocks_per_stage: int = 2
    neck_channels: int = 512
    out_channels: int = 256


@dataclass
class HeadConfig:
    """The head, which turns each BEV cell into the class logits of its column.

    Attributes:
      channels: of its convolution.
      hidden: of the layer before the logits, for each column.
      activation: of that layer; "softplus" is the PyTorch original's, "relu" costs next to nothing.
    """

    channels: int = 256
    hidden: int = 512
    activation: Literal["softplus", "relu"] = "softplus"


@dataclass
class ModelConfig:
    """The student, stage by stage.

    Attributes:
      fpn_channels: of the image features.
      compute_dtype: of convolutions and dense layers; "auto" = bfloat16 on accelerators, float32 on CPUs. Parameters,
        statistics, logits, softmax and losses are float32 all the same.
      remat_backbone: recompute backbone activations in the backward pass: less memory, more time.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fpn_channels: int = 256
    depth: DepthConfig = field(default_factory=DepthConfig)
    view_transform: ViewTransformConfig = field(default_factory=ViewTransformConfig)
    bev_encoder: BevEncoderConfig = field(default_factory=BevEncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    # bfloat16 halves memory on accelerators; on most CPUs it is emulated and slower.
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    remat_backbone: bool = False
