"""Name maps from PyTorch's entries to our arrays, as data, and the layout changes between the two."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from occjax.config import BackboneConfig, DepthConfig, ModelConfig
from occjax.models.depth_net import ASPP_DILATIONS
from occjax.models.resnet import BLOCKS

# Axes of our array, as axes of theirs. Their BEV maps have rows = y and columns = x, ours the reverse.
LAYOUTS = {
    "vector": (0,),
    "dense": (1, 0),  # [out, in] -> [in, out]
    "image_conv": (2, 3, 1, 0),  # [out, in, rows, columns] -> [rows, columns, in, out]
    "bev_conv": (3, 2, 1, 0),  # [out, in, y, x] -> [x, y, in, out]
    "pointwise": (1, 0),  # 1x1 convolution of a vector -> dense
}


@dataclass(frozen=True)
class Entry:
    """One array: our path into params or batch_stats, their key, and how the axes correspond."""

    ours: tuple[str | int, ...]
    theirs: str
    layout: str

    def their_shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of their array, from that of ours."""
        shape = tuple(ours[axis] for axis in np.argsort(LAYOUTS[self.layout]))
        # Torch has a 1x1 convolution where we have a dense layer.
        return (*shape, 1, 1) if self.layout == "pointwise" else shape

    def from_torch(self, array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Our layout of their array, float32."""
        if self.layout == "pointwise":
            array = array.reshape(array.shape[:2])
        return np.ascontiguousarray(array.transpose(LAYOUTS[self.layout]), np.float32)

    def to_torch(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Their layout of our array."""
        array = np.asarray(array).transpose(np.argsort(LAYOUTS[self.layout]))
        return np.ascontiguousarray(array[..., None, None] if self.layout == "pointwise" else array)


def _norm(ours, theirs) -> list[Entry]:
    # BatchNorm: parameters and running statistics lie side by side there, in two trees here.
    pairs = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return [Entry((*ours, name), f"{theirs}.{their_name}", "vector") for name, their_name in pairs.items()]


def _weights(ours, theirs, layout, *, bias: bool) -> list[Entry]:
    entries = [Entry((*ours, "kernel"), f"{theirs}.weight", layout)]
    return entries + ([Entry((*ours, "bias"), f"{theirs}.bias", "vector")] if bias else [])


def _conv_norm(ours, conv, norm, layout) -> list[Entry]:
    return _weights((*ours, "conv"), conv, layout, bias=False) + _norm((*ours, "norm"), norm)


def _block(ours, theirs, layout, *, convs: int, shortcut: bool) -> list[Entry]:
    entries = []
    for i in range(1, convs + 1):
        entries += _conv_norm((*ours, f"conv{i}"), f"{theirs}.conv{i}", f"{theirs}.bn{i}", layout)
    if shortcut:
        entries += _conv_norm((*ours, "shortcut"), f"{theirs}.downsample.0", f"{theirs}.downsample.1", layout)
    return entries


def _resnet(config: BackboneConfig, ours, prefix: str, stem: tuple[str, str]) -> list[Entry]:
    entries = _conv_norm((*ours, "stem"), prefix + stem[0], prefix + stem[1], "image_conv")
    # ResNet-50 has three convolutions to a block, and a shortcut in its first stage, which changes the channels.
    bottleneck = config.depth == 50
    for stage, blocks in enumerate(BLOCKS[config.depth]):
        for block in range(blocks):
            entries += _block(
                (*ours, "stages", stage, block),
                f"{prefix}layer{stage + 1}.{block}",
                "image_conv",
                convs=3 if bottleneck else 2,
                shortcut=block == 0 and (stage > 0 or bottleneck),
            )
    return entries


def resnet_entries(config: BackboneConfig) -> list[Entry]:
    """torchvision's ResNet-18/34/50 `state_dict`, without its classifier; our paths start at the backbone."""
    return _resnet(config, (), "", ("conv1", "bn1"))


def _depth_net_entries(config: DepthConfig) -> list[Entry]:
    ours, theirs = ("depth_net",), "vt.depthnet"
    # Fixed units hold nothing that could be imported.
    entries = _norm((*ours, "camera_norm"), f"{theirs}.bn") if config.camera_norm == "batch" else []
    entries += _conv_norm((*ours, "reduce"), f"{theirs}.reduce_conv.0", f"{theirs}.reduce_conv.1", "image_conv")
    for gate in ("context", "depth"):
        layers = {
            "mlp1": (f"{gate}_mlp.fc1", "dense"),
            "mlp2": (f"{gate}_mlp.fc2", "dense"),
            "reduce": (f"{gate}_se.conv_reduce", "pointwise"),
            "expand": (f"{gate}_se.conv_expand", "pointwise"),
        }
        for name, (their_name, layout) in layers.items():
            entries += _weights((*ours, f"{gate}_gate", name), f"{theirs}.{their_name}", layout, bias=True)
    entries += _weights((*ours, "context"), f"{theirs}.context_conv", "image_conv", bias=True)
    for block in range(3):
        path = (*ours, "depth_blocks", block)
        entries += _block(path, f"{theirs}.depth_conv_layers.{block}", "image_conv", convs=2, shortcut=False)
    for branch in range(len(ASPP_DILATIONS)):
        name = f"{theirs}.aspp.aspp{branch + 1}"
        path = (*ours, "aspp", "branches", branch)
        entries += _conv_norm(path, f"{name}.atrous_conv", f"{name}.bn", "image_conv")
    pool = f"{theirs}.aspp.global_avg_pool"
    entries += _conv_norm((*ours, "aspp", "pooled"), f"{pool}.1", f"{pool}.2", "image_conv")
    entries += _conv_norm((*ours, "aspp", "merge"), f"{theirs}.aspp.conv1", f"{theirs}.aspp.bn1", "image_conv")
    entries += _weights((*ours, "depth_conv"), f"{theirs}.dcn.conv", "image_conv", bias=False)
    return entries + _weights((*ours, "depth"), f"{theirs}.depth_out", "image_conv", bias=True)


def _bev_entries(config: ModelConfig) -> list[Entry]:
    entries = _weights(("view_transform", "refine"), "vt.bev_refine", "bev_conv", bias=True)
    for stage in range(len(config.bev_encoder.stage_channels)):
        for block in range(config.bev_encoder.blocks_per_stage):
            path, name = ("bev_encoder", "stages", stage, block), f"bev_encoder.layers.{stage}.{block}"
            entries += _block(path, name, "bev_conv", convs=2, shortcut=block == 0)
    for name, conv, norm in (("join", "conv.0", "conv.1"), ("fuse", "conv.3", "conv.4"), ("expand", "up2.1", "up2.2")):
        entries += _conv_norm(("bev_neck", name), f"bev_neck.{conv}", f"bev_neck.{norm}", "bev_conv")
    entries += _weights(("bev_neck", "out"), "bev_neck.up2.4", "bev_conv", bias=True)
    entries += _weights(("head", "conv"), "head.final_conv.conv", "bev_conv", bias=True)
    entries += _weights(("head", "hidden"), "head.predicter.0", "dense", bias=True)
    return entries + _weights(("head", "out"), "head.predicter.2", "dense", bias=True)


def student_entries(config: ModelConfig) -> list[Entry]:
    """The original student's `state_dict`, in the flow's order."""
    entries = _resnet(config.backbone, ("backbone",), "backbone.", ("stem.0", "stem.1"))
    for part, name in (("laterals", "lateral_convs"), ("outputs", "fpn_convs")):
        for level in range(4):
            entries += _weights(("fpn", part, level), f"neck.{name}.{level}", "image_conv", bias=True)
    return entries + _depth_net_entries(config.depth) + _bev_entries(config)


def needs_no_counterpart(key: str) -> bool:
    """True of the entries of a `state_dict` that hold nothing the model computes with: step counters, class weights."""
    return key.endswith("num_batches_tracked") or key in ("head.cls_weights", "head.loss_occ.class_weight")
