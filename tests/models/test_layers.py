"""The shared layers follow PyTorch's conventions and mask what must not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from occjax.models.layers import BasicBlock, BatchNorm, Conv, Dense


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_batch_norm_by_hand():
    norm = BatchNorm(1)
    out = norm(jnp.array([[1.0], [3.0]]), train=True)
    np.testing.assert_allclose(out, [[-1.0], [1.0]], atol=1e-5)
    # Mean 2 and the unbiased variance 2, taken in with a weight of 0.1.
    np.testing.assert_allclose(norm.mean[...], [0.2], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9 + 0.2], rtol=1e-6)
    np.testing.assert_allclose(norm(jnp.array([[0.2]]), train=False), [[0.0]], atol=1e-6)


def test_batch_norm_ignores_masked_rows():
    x, mask = normal(3, 2, 2, 4), jnp.array([True, False, True])
    masked, kept = BatchNorm(4), BatchNorm(4)
    out = masked(x.at[1].set(1e4), train=True, mask=mask)
    expected = kept(x[jnp.array([0, 2])], train=True)
    np.testing.assert_allclose(out[jnp.array([0, 2])], expected, atol=1e-4)
    np.testing.assert_allclose(masked.mean[...], kept.mean[...], atol=1e-5)
    np.testing.assert_allclose(masked.var[...], kept.var[...], atol=1e-5)


def test_batch_norm_with_nothing_to_count_is_finite_and_moves_nothing():
    norm = BatchNorm(2)
    out = norm(normal(3, 2), train=True, mask=jnp.zeros(3, bool))
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(norm.mean[...], [0, 0])
    np.testing.assert_array_equal(norm.var[...], [1, 1])


def test_strided_convolution_samples_where_pytorch_does():
    conv = Conv(1, 1, 3, stride=2, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    x = jnp.arange(36.0).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(conv(x), x[:, ::2, ::2])


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolution_is_a_strided_matmul(stride):
    conv = Conv(3, 5, 1, stride=stride, rngs=nnx.Rngs(0))
    x = normal(2, 5, 7, 3)
    np.testing.assert_allclose(conv(x), x[:, ::stride, ::stride] @ conv.kernel[0, 0], rtol=1e-5, atol=1e-6)


def test_dilation_keeps_the_size_and_reaches_far():
    conv = Conv(1, 1, 3, dilation=4, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[0, 2].set(1.0)
    x = normal(1, 9, 9, 1)
    np.testing.assert_array_equal(conv(x)[0, 4:, :5], x[0, :5, 4:])


def test_block_without_change_of_shape_has_no_shortcut():
    assert BasicBlock(8, 8, rngs=nnx.Rngs(0)).shortcut is None
    block = BasicBlock(8, 8, stride=2, shortcut_size=3, rngs=nnx.Rngs(0))
    assert block.shortcut.conv.kernel.shape == (3, 3, 8, 8)
    assert block(normal(1, 7, 5, 8), train=False).shape == (1, 4, 3, 8)


def test_he_initialisation_keeps_the_scale():
    conv, dense = Conv(64, 128, 3, rngs=nnx.Rngs(0)), Dense(256, 512, rngs=nnx.Rngs(1))
    assert conv.kernel[...].std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    assert dense(jax.nn.relu(normal(64, 256))).std() == pytest.approx(1.0, rel=0.1)


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    block = BasicBlock(4, 8, stride=2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert block(normal(1, 4, 4, 4), train=True).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(block))} == {jnp.dtype("float32")}
