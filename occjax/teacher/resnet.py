"""ResNet-101 with deformable convolutions: images become feature maps at strides 4, 8, 16, 32.

He et al. 2016 in its first form, which has the stride on the 1x1 convolution; deformable in its last two stages.
BatchNorm is part of the convolutions' weights (`checkpoint.py`).
"""

import jax
from jaxtyping import Array, Float

from occjax.models.resnet import max_pool
from occjax.teacher.deformable_conv import deformable_conv
from occjax.teacher.layers import Weights, conv


def resnet(weights: Weights, images: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
    """Feature maps C2 to C5, float32, of normalised images."""
    x = max_pool(jax.nn.relu(conv(weights["stem"], images, stride=2, padding=3)))
    features = []
    for index, stage in enumerate(weights["stages"]):
        x = bottleneck(stage["first"], x, stride=1 if index == 0 else 2)
        # The others of a stage are alike: one program runs them all, where 33 would take minutes to compile.
        x, _ = jax.lax.scan(lambda x, block: (bottleneck(block, x), None), x, stage["others"])
        features.append(x)
    return tuple(features)


def bottleneck(weights: Weights, x: Float[Array, "b h w c"], *, stride: int = 1) -> Float[Array, "b h2 w2 d"]:
    """1x1, 3x3, 1x1 convolutions with a shortcut; the 3x3 one is deformable where there are offsets for it."""
    y = jax.nn.relu(conv(weights["conv1"], x, stride=stride))
    if "offset" in weights:
        y = deformable_conv(weights["conv2"], weights["offset"], y)
    else:
        y = conv(weights["conv2"], y, padding=1)
    y = conv(weights["conv3"], jax.nn.relu(y))
    identity = conv(weights["shortcut"], x, stride=stride) if "shortcut" in weights else x
    return jax.nn.relu(y + identity)
