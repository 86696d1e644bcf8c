"""Resizing aligned at the corners, and the convolution that is computed before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from occjax.models.resized_conv import ResizedConv, bilinear_matrix, conv_of_resized


def test_bilinear_matrix_by_hand():
    np.testing.assert_allclose(bilinear_matrix(2, 3), [[1, 0], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(bilinear_matrix(3, 5) @ [0, 2, 4], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(bilinear_matrix(4, 4), np.eye(4))
    np.testing.assert_allclose(bilinear_matrix(1, 3), np.ones((3, 1)))
    np.testing.assert_allclose(bilinear_matrix(3, 1), [[1, 0, 0]])


@pytest.mark.parametrize(
    ("source", "target"), [((5, 6), (10, 12)), ((3, 4), (9, 7)), ((1, 2), (2, 4)), ((4, 4), (4, 4))]
)
def test_convolution_before_the_resize_equals_convolution_after_it(source, target):
    r = np.random.default_rng(0)
    x = jnp.asarray(r.normal(size=(2, *source, 3)), jnp.float32)
    kernel = jnp.asarray(r.normal(size=(3, 3, 3, 4)), jnp.float32)
    rows, columns = bilinear_matrix(source[0], target[0]), bilinear_matrix(source[1], target[1])
    resized = jnp.einsum("xh,yw,bhwc->bxyc", rows, columns, x)
    expected = jax.lax.conv_general_dilated(
        resized, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv_of_resized(x, kernel, target), expected, atol=1e-4)


def test_a_map_beside_is_joined_in_front():
    r = np.random.default_rng(0)
    beside, x = (jnp.asarray(r.normal(size=shape), jnp.float32) for shape in ((1, 8, 6, 2), (1, 4, 3, 3)))
    conv = ResizedConv(3, 4, c_beside=2, rngs=nnx.Rngs(0))
    resized = jnp.einsum("xh,yw,bhwc->bxyc", bilinear_matrix(4, 8), bilinear_matrix(3, 6), x)
    expected = jax.lax.conv_general_dilated(
        jnp.concatenate([beside, resized], axis=-1),
        conv.kernel[...],
        (1, 1),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(conv(x, (8, 6), beside), expected, atol=1e-4)
