"""The stride-2 convolution with a gradient that multiplies no zeros."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"]) -> Float[Array, "b h2 w2 o"]:
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), [(pad, pad), (pad, pad)], dimension_numbers=_DIMENSIONS)


@jax.custom_vjp
def strided_conv(x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"]) -> Float[Array, "b h2 w2 o"]:
    """Convolution at stride 2, padded by half the (odd) kernel.

    On a CPU the gradient of `x` is computed by `input_gradient_by_phases`: XLA there spreads the output's gradient over
    a map of four times the size and convolves the zeros between as well, which takes up to four times as long.
    """
    return _convolve(x, kernel)


def _backward(residuals, g):
    x, kernel = residuals

    def direct(g, kernel):
        return jax.linear_transpose(lambda x: _convolve(x, kernel), x)(g)[0]

    is_even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    if is_even:
        of_x = jax.lax.platform_dependent(g, kernel, cpu=input_gradient_by_phases, default=direct)
    else:
        of_x = direct(g, kernel)
    (of_kernel,) = jax.linear_transpose(lambda kernel: _convolve(x, kernel), kernel)(g)
    return of_x, of_kernel


strided_conv.defvjp(lambda x, kernel: (_convolve(x, kernel), (x, kernel)), _backward)


def input_gradient_by_phases(
    g: Float[Array, "b h w o"], kernel: Float[Array, "k k c o"]
) -> Float[Array, "b 2*h 2*w c"]:
    """Gradient of an input of even size from the output's, `g`: one small convolution per row and column parity.

    An input row 2a + parity meets only those kernel rows i whose output row a + (parity + k // 2 - i) / 2 is whole.
    """
    transposed = jnp.swapaxes(kernel, 2, 3)
    half = kernel.shape[0] // 2

    def taps(parity: int) -> tuple[slice, tuple[int, int]]:
        """Kernel rows of a parity in the order of the output rows they meet, and the padding of `g` that this takes."""
        last = kernel.shape[0] - 1
        last -= (parity + half - last) % 2
        first = (parity + half) % 2
        padding = ((last - half - parity) // 2, (parity + half - first) // 2)
        return slice(last, first - 1 if first else None, -2), padding

    rows = []
    for row_parity in (0, 1):
        row_taps, row_padding = taps(row_parity)
        columns = []
        for column_parity in (0, 1):
            column_taps, column_padding = taps(column_parity)
            part = jax.lax.conv_general_dilated(
                g,
                transposed[row_taps, column_taps],
                (1, 1),
                [row_padding, column_padding],
                dimension_numbers=_DIMENSIONS,
            )
            columns.append(part)
        rows.append(jnp.stack(columns, axis=3))
    interleaved = jnp.stack(rows, axis=2)  # [B, H, 2, W, 2, C]
    b, h, _, w, _, c = interleaved.shape
    return interleaved.reshape(b, 2 * h, 2 * w, c)
