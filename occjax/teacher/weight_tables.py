"""Tables of the checkpoint: which of its entries each stage reads, from a block of the ResNet up to the whole teacher.

Names and shapes are the published ones. The refinement's scale becomes part of its last layer, and the blocks of a
ResNet's stage that are alike are stacked.
"""

from collections.abc import Sequence

import numpy as np

from occjax.teacher.deformable_aggregation import GROUPS
from occjax.teacher.key_points import FIXED
from occjax.teacher.lifter import DEPTHS_M
from occjax.teacher.submanifold_conv import TAPS, WIDTH
from occjax.teacher.variants import TeacherVariant
from occjax.teacher.weight_parts import Part, Shape, Stack, Table, conv, conv_norm, linear, mlp, norm, value

CHANNELS, LEVELS = 128, 4
# ResNet-101: blocks of its stages and their inner width; the first stages whose 3x3 convolution stays in place.
BLOCKS, WIDTHS, RIGID_STAGES = (3, 4, 23, 3), (64, 128, 256, 512), 2
BACKBONE_CHANNELS = tuple(4 * width for width in WIDTHS)
SECOND_EPSILON = 1e-3  # of SECONDFPN's BatchNorm; torch's own is 1e-5


def bottleneck(key: str, c_in: int, width: int, *, is_first: bool, is_deformable: bool) -> Table:
    """One block of the ResNet."""
    c_out = 4 * width
    middle: Table = conv_norm(f"{key}.conv2", f"{key}.bn2", (width, width, 3, 3))
    if is_deformable:
        taps = middle.build

        def by_tap(*arrays):
            kernel, bias = taps(*arrays).values()
            return {"kernel": kernel.reshape(9, width, width), "bias": bias}

        middle = Part(middle.shapes, by_tap)
    block = {
        "conv1": conv_norm(f"{key}.conv1", f"{key}.bn1", (width, c_in, 1, 1)),
        "conv2": middle,
        "conv3": conv_norm(f"{key}.conv3", f"{key}.bn3", (c_out, width, 1, 1)),
    }
    if is_deformable:
        block["offset"] = conv(f"{key}.conv2.conv_offset", width, 27, 3)
    if is_first:
        block["shortcut"] = conv_norm(f"{key}.downsample.0", f"{key}.downsample.1", (c_out, c_in, 1, 1))
    return block


def resnet(key: str, blocks: Sequence[int] = BLOCKS, stem: int = 64, widths: Sequence[int] = WIDTHS) -> Table:
    """The image backbone."""
    stages, c_in = [], stem
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        name, is_deformable = f"{key}layer{index + 1}", index >= RIGID_STAGES
        others = [
            bottleneck(f"{name}.{b}", 4 * width, width, is_first=False, is_deformable=is_deformable)
            for b in range(1, count)
        ]
        first = bottleneck(f"{name}.0", c_in, width, is_first=True, is_deformable=is_deformable)
        stages.append({"first": first, "others": Stack(others)})
        c_in = 4 * width
    return {"stem": conv_norm(f"{key}conv1", f"{key}bn1", (stem, 3, 7, 7)), "stages": tuple(stages)}


def feature_pyramid(key: str, c_in: Sequence[int] = BACKBONE_CHANNELS, channels: int = CHANNELS) -> Table:
    """FPN, which does not read the first of `c_in`."""
    return {
        "laterals": tuple(conv(f"{key}lateral_convs.{i}.conv", c, channels, 1) for i, c in enumerate(c_in[1:])),
        "outputs": tuple(conv(f"{key}fpn_convs.{i}.conv", channels, channels, 3) for i in range(LEVELS)),
    }


def second_fpn(key: str, c_in: Sequence[int] = BACKBONE_CHANNELS, channels: int = CHANNELS) -> Table:
    """SECONDFPN: a convolution for the finest map, transposed ones for the others."""
    keys = [(f"{key}deblocks.{i}.0", f"{key}deblocks.{i}.1") for i in range(len(c_in))]
    upsampled = [
        conv_norm(
            *keys[i],
            (c_in[i], channels, 2 ** (i - 1), 2 ** (i - 1)),
            epsilon=SECOND_EPSILON,
            c_out_axis=1,
            layout=lambda weight: weight.transpose(0, 2, 3, 1),
        )
        for i in range(1, len(c_in))
    ]
    return (conv_norm(*keys[0], (channels, c_in[0], 2, 2), epsilon=SECOND_EPSILON), *upsampled)


def embedding(key: str, variant: TeacherVariant, channels: int = CHANNELS) -> Table:
    """The anchor encoder."""
    widths = {"xyz": 3, "scale": 3, "rot": 4, "opacity": 1, "semantics": variant.semantic_channels, "output": channels}
    if not variant.has_opacity:
        del widths["opacity"]
    return {name: mlp(f"{key}{name}_fc", width, channels) for name, width in widths.items()}


def deformable(key: str, variant: TeacherVariant, channels: int = CHANNELS) -> Table:
    """Key points and the aggregation at them."""
    split = (LEVELS, len(FIXED) + variant.learned_points, GROUPS)
    numbers = int(np.prod(split))
    attention = Part(
        {f"{key}.weights_fc.weight": (numbers, channels), f"{key}.weights_fc.bias": (numbers,)},
        lambda weight, bias: {"kernel": weight.T.reshape(channels, *split), "bias": bias.reshape(split)},
    )
    return {
        "key_points": linear(f"{key}.kps_generator.learnable_fc", channels, 3 * variant.learned_points),
        "camera": mlp(f"{key}.camera_encoder", 12, channels),
        "attention": attention,
        "output": linear(f"{key}.output_proj", channels, channels),
    }


def feed_forward(key: str, variant: TeacherVariant, channels: int = CHANNELS) -> Table:
    """Four times as wide inside; version 1 reads what the images gave beside the features."""
    c_in = channels if variant.version == 2 else 2 * channels
    block = {
        "expand": linear(f"{key}.layers.0.0", c_in, 4 * channels),
        "contract": linear(f"{key}.layers.1", 4 * channels, channels),
    }
    if variant.version == 1:
        block |= {"norm": norm(f"{key}.pre_norm", c_in), "shortcut": linear(f"{key}.identity_fc", c_in, channels)}
    return block


def submanifold_conv(key: str, channels: int, *, has_bias: bool) -> Part:
    """Kernel [125, C, D] of their [D, x, y, z, C]."""

    def build(weight, *bias):
        kernel = np.ascontiguousarray(weight.transpose(1, 2, 3, 4, 0)).reshape(TAPS, channels, channels)
        return {"kernel": kernel, **({"bias": bias[0]} if bias else {})}

    shapes: dict[str, Shape] = {f"{key}.weight": (channels, WIDTH, WIDTH, WIDTH, channels)}
    if has_bias:
        shapes[f"{key}.bias"] = (channels,)
    return Part(shapes, build)


def submanifold_block(key: str, variant: TeacherVariant, channels: int = CHANNELS) -> Table:
    """Its convolutions, numbered with their normalisation and ReLU."""
    layers: Table = tuple(
        {
            "conv": submanifold_conv(f"{key}.layer.{3 * i}", channels, has_bias=True),
            "norm": norm(f"{key}.layer.{3 * i + 1}", channels),
        }
        for i in range(variant.sparse_layers)
    )
    block = {"layers": layers or ({"conv": submanifold_conv(f"{key}.layer", channels, has_bias=False)},)}
    if variant.sparse_projects:
        block["output"] = linear(f"{key}.output_proj", channels, channels)
    return block


def refinement(key: str, channels: int = CHANNELS) -> Table:
    """Its layers are numbered with their ReLUs; the scale of the update is part of the last one."""

    def block(first: int) -> Table:
        linears = tuple(linear(f"{key}.layers.{i}", channels, channels) for i in (first, first + 2))
        return {"linears": linears, "norm": norm(f"{key}.layers.{first + 4}", channels)}

    last = linear(f"{key}.layers.10", channels, 28)
    output = Part(
        last.shapes | {f"{key}.layers.11.scale": (28,)},
        lambda weight, bias, scale: {"kernel": weight.T * scale, "bias": bias * scale},
    )
    return {"blocks": (block(0), block(5)), "output": output}


def operation(name: str, key: str, variant: TeacherVariant) -> Table:
    """An operation of the encoder; those without weights have an empty entry."""
    match name:
        case "deformable":
            return deformable(key, variant)
        case "ffn":
            return feed_forward(key, variant)
        case "norm":
            return norm(key, CHANNELS)
        case "spconv":
            return submanifold_block(key, variant)
        case "refine":
            return refinement(key)
    return ()


def encoder_stages(variant: TeacherVariant) -> Table:
    """All stages, whose operations have one running number."""
    stages, first = [], 0
    for names in variant.stages:
        stages.append(tuple(operation(n, f"encoder.layers.{first + i}", variant) for i, n in enumerate(names)))
        first += len(names)
    return tuple(stages)


def teacher(variant: TeacherVariant) -> Table:
    """Everything that `teacher.Teacher` reads."""
    table = {
        "images": {"backbone": resnet("img_backbone."), "neck": feature_pyramid("img_neck.")},
        "anchors": {"features": value("lifter.instance_feature", variant.num_anchors, CHANNELS)},
        "embedding": embedding("encoder.anchor_encoder.", variant),
        "stages": encoder_stages(variant),
    }
    if variant.has_empty_gaussian:
        table["empty_value"] = Part({"head.empty_scalar": (1,)}, lambda x: x[0])
    if variant.version == 1:
        table["anchors"]["stored"] = value("lifter.anchor", variant.stored_anchors, 28)
        return table
    own = "lifter.initialize_backbone."
    table["anchors"] |= {
        # Without a position: 25 values.
        "lifted": value("lifter.anchor", variant.lifted_anchors, 25),
        "stored": value("lifter.random_anchors", variant.stored_anchors, 28),
    }
    table["depth"] = {
        "backbone": resnet(f"{own}img_backbone."),
        "neck": second_fpn(f"{own}img_neck."),
        "logits": linear("lifter.projection.1", len(BLOCKS) * CHANNELS, len(DEPTHS_M) + 1),
    }
    return table
