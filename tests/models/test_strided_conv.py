"""The stride-2 convolution and its gradients against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.models.strided_conv import input_gradient_by_phases, strided_conv


def plain(x, kernel):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(size, kernel_size):
    r = np.random.default_rng(0)
    x = r.standard_normal((2, *size, 3)).astype(np.float32)
    kernel = r.standard_normal((kernel_size, kernel_size, 3, 5)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(kernel)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("size", [(8, 6), (7, 6), (6, 5), (9, 9)])
def test_value_and_gradients_are_those_of_the_plain_convolution(size, kernel_size):
    x, kernel = arrays(size, kernel_size)
    y, pullback = jax.vjp(strided_conv, x, kernel)
    expected, expected_pullback = jax.vjp(plain, x, kernel)
    np.testing.assert_array_equal(y, expected)
    g = jnp.asarray(np.random.default_rng(1).standard_normal(y.shape), jnp.float32)
    for found, wanted in zip(pullback(g), expected_pullback(g), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_one_output_spreads_over_the_inputs_it_was_made_of(kernel_size):
    _, kernel = arrays((8, 8), kernel_size)
    g = np.zeros((1, 4, 4, 5), np.float32)
    g[0, 2, 1, 4] = 1.0
    x_gradient = np.asarray(input_gradient_by_phases(jnp.asarray(g), kernel))
    expected = np.zeros((1, 8 + 2 * kernel_size, 8 + 2 * kernel_size, 3), np.float32)
    top, left = 2 * 2 - kernel_size // 2 + kernel_size, 2 * 1 - kernel_size // 2 + kernel_size
    expected[0, top : top + kernel_size, left : left + kernel_size] = kernel[..., 4]
    np.testing.assert_allclose(x_gradient, expected[:, kernel_size:-kernel_size, kernel_size:-kernel_size], atol=1e-6)
