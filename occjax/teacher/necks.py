"""Necks: the pyramid that Gaussians look at (FPN, Lin et al. 2017), and the map that depth is read from (SECONDFPN)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from occjax.teacher.layers import PRECISION, Weights, conv


def feature_pyramid(
    weights: Weights, features: tuple[Float[Array, "b _ _ _"], ...]
) -> tuple[Float[Array, "b _ _ c"], ...]:
    """P3 to P6 at strides 8, 16, 32, 64 from C2 to C5, of which C2 is not read."""
    merged = [conv(lateral, x) for lateral, x in zip(weights["laterals"], features[1:], strict=True)]
    for fine in range(len(merged) - 2, -1, -1):
        _, height, width, _ = merged[fine].shape
        merged[fine] = merged[fine] + nearest(merged[fine + 1], (height, width))
    *outputs, extra = weights["outputs"]
    levels = [conv(output, x, padding=1) for output, x in zip(outputs, merged, strict=True)]
    # From the output before it, without a ReLU: that would come before a second extra level.
    return (*levels, conv(extra, levels[-1], stride=2, padding=1))


def nearest(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """The map resized by taking the nearest pixel, torch's rule: row floor(i · H / H2)."""
    rows, columns = (jnp.arange(n) * m // n for n, m in zip(size, x.shape[1:3], strict=True))
    return x[:, rows][:, :, columns]


def depth_features(weights: Weights, features: tuple[Float[Array, "b _ _ _"], ...]) -> Float[Array, "b h w c"]:
    """One map at stride 8 from C2 to C5: each brought there, then side by side (SECOND, Yan et al. 2018)."""
    finest, *others = features
    branches = [conv(weights[0], finest, stride=2)]
    branches += [upsampled(branch, x) for branch, x in zip(weights[1:], others, strict=True)]
    return jnp.concatenate([jax.nn.relu(branch) for branch in branches], axis=-1)


def upsampled(weights: Weights, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
    """Transposed convolution with kernel [C, k, k, D] and stride k: each pixel becomes a square of k by k."""
    b, h, w, _ = x.shape
    k = weights["kernel"].shape[1]
    squares = jnp.einsum("bhwc,cijd->bhiwjd", x, weights["kernel"], precision=PRECISION)
    return squares.reshape(b, h * k, w * k, -1) + weights["bias"]
