"""Deformable 3x3 convolution: each tap reads where its offset points, times a mask (DCNv2, Zhu et al. 2019)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from occjax.teacher.bilinear import CORNERS, corners
from occjax.teacher.layers import PRECISION, Weights, conv

TAPS = 9


def deformable_conv(weights: Weights, offset: Weights, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    """Same size as the input; `offset` is the convolution that places the taps."""
    return sample_and_convolve(weights, x, conv(offset, x, padding=1))


def sample_and_convolve(
    weights: Weights, x: Float[Array, "b h w c"], placement: Float[Array, "b h w 27"]
) -> Float[Array, "b h w d"]:
    """Convolution with taps placed by hand.

    Args:
      weights: kernel [9, C, D], its taps row by row, and bias [D].
      x: the map.
      placement: of each tap its offset in pixels, (y, x) after (y, x), then nine logits of the masks.
    """
    b, h, w, c = x.shape
    offsets = placement[..., : 2 * TAPS].reshape(b, h, w, TAPS, 2)
    mask = jax.nn.sigmoid(placement[..., 2 * TAPS :])  # [B, H, W, 9]
    tap = jnp.arange(TAPS)
    y = jnp.arange(h)[:, None, None] + tap // 3 - 1 + offsets[..., 0]
    x_position = jnp.arange(w)[:, None] + tap % 3 - 1 + offsets[..., 1]
    index, share = corners(y, x_position, h, w)  # [B, H, W, 9, 4]
    index = index + h * w * jnp.arange(b)[:, None, None, None, None]
    share = share * mask[..., None]

    def by_tap(values):
        return jnp.moveaxis(values, 3, 0).reshape(TAPS, b * h * w, CORNERS)

    kernel = weights["kernel"]
    rows = x.astype(kernel.dtype).reshape(b * h * w, c)

    # Tap by tap: all nine at once are written to memory and read back, which takes twice the time on a CPU (a map of
    # 54 x 100 x 256: 0.17 against 0.34 s of processor time, of which the products take 0.09).
    def add_tap(total, operands):
        index, share, kernel = operands
        sample = gather_weighted(rows, index, share).astype(kernel.dtype)
        return total + jnp.matmul(sample, kernel, precision=PRECISION, preferred_element_type=jnp.float32), None

    total = jnp.zeros((b * h * w, kernel.shape[-1])) + weights["bias"]
    total, _ = jax.lax.scan(add_tap, total, (by_tap(index), by_tap(share), kernel))
    return total.reshape(b, h, w, -1)


def gather_weighted(
    rows: Float[Array, "n c"], index: Int[Array, "m 4"], share: Float[Array, "m 4"]
) -> Float[Array, "m c"]:
    """Σ over four corners of share · row, in float32."""
    total = jnp.zeros((len(index), rows.shape[1]))
    for corner in range(CORNERS):
        # Without the check for rows out of bounds, which there are none of.
        row = rows.at[index[:, corner]].get(mode="promise_in_bounds")
        total = total + row * share[:, corner, None]
    return total
