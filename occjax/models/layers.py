"""The convolution, normalisation and residual block that every stage of the student is made of."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

# Share of the old value that a running statistic keeps (PyTorch calls 1 - this its momentum).
RUNNING_DECAY = 0.9
EPSILON = 1e-5


def draw_normal(key: PRNGKeyArray, shape: tuple[int, ...], std: float) -> Float[Array, "..."]:
    """Normal float32 numbers of mean 0, drawn on the host.

    XLA would compile a generator for every shape of the model, which takes far longer than drawing.
    """

    def draw(key_data):
        generator = np.random.default_rng(np.asarray(key_data))
        return generator.standard_normal(shape, np.float32) * np.float32(std)

    return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, jnp.float32), jax.random.key_data(key))


class Conv(nnx.Module):
    """2D convolution over [B, H, W, C] (or [B, X, Y, C]), padded by half the dilated kernel as PyTorch models are.

    Attributes:
      kernel: float32 [k, k, c_in, c_out], He initialised for the ReLU that follows.
      bias: float32 [c_out] or None.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        use_bias: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        he_std = math.sqrt(2.0 / (size * size * c_out))
        self.kernel = nnx.Param(draw_normal(rngs.params(), (size, size, c_in, c_out), he_std))
        self.bias = nnx.Param(jnp.zeros(c_out)) if use_bias else None
        self.stride, self.dilation, self.dtype = stride, dilation, dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        pad, stride = self.dilation * (self.kernel.shape[0] // 2), self.stride
        if self.kernel.shape[0] == 1:
            # A strided 1x1 convolution reads every other pixel; dropping them first spares the gradient the zeros.
            x, stride = x[:, ::stride, ::stride], 1
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            window_strides=(stride, stride),
            padding=[(pad, pad), (pad, pad)],
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class Dense(nnx.Module):
    """Linear map of the last axis with bias; kernel float32 [c_in, c_out], He initialised unless `std` is given."""

    def __init__(self, c_in: int, c_out: int, *, std: float | None = None, dtype=jnp.float32, rngs: nnx.Rngs):
        std = math.sqrt(2.0 / c_in) if std is None else std
        self.kernel = nnx.Param(draw_normal(rngs.params(), (c_in, c_out), std))
        self.bias = nnx.Param(jnp.zeros(c_out))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*axes c"]) -> Float[Array, "*axes c2"]:
        return x.astype(self.dtype) @ self.kernel[...].astype(self.dtype) + self.bias[...].astype(self.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's conventions.

    Own code rather than flax's because the running variance is the unbiased one, as in the imported model (over the
    six cameras of one sample that is a factor 1.2), and because rows may be masked: the black image of a missing
    camera counts in no statistic.
    """

    def __init__(self, channels: int, *, dtype=jnp.float32):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.dtype = dtype

    def __call__(
        self, x: Float[Array, "b *axes c"], *, train: bool, mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b *axes c"]:
        """Normalises `x`; in training by the statistics of the rows where `mask` holds, which move the running ones."""
        mean, var = self._batch_statistics(x, mask) if train else (self.mean[...], self.var[...])
        scale = self.scale[...] * jax.lax.rsqrt(var + EPSILON)
        shift = self.bias[...] - mean * scale
        return (x * scale + shift).astype(self.dtype)

    def _batch_statistics(self, x, mask):
        x = x.astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        if mask is None:
            count = jnp.float32(math.prod(x.shape[:-1]))
            total = jnp.sum
        else:
            weight = mask.astype(jnp.float32).reshape(-1, *[1] * (x.ndim - 1))
            count = weight.sum() * math.prod(x.shape[1:-1])

            def total(values, axes):
                return jnp.sum(values * weight, axes)

        mean = total(x, axes) / jnp.maximum(count, 1)
        var = total(jnp.square(x - mean), axes) / jnp.maximum(count, 1)
        # A batch without a single valid row moves nothing.
        rate = jnp.where(count > 0, 1 - RUNNING_DECAY, 0.0)
        unbiased = var * count / jnp.maximum(count - 1, 1)
        self.mean[...] += rate * (jax.lax.stop_gradient(mean) - self.mean[...])
        self.var[...] += rate * (jax.lax.stop_gradient(unbiased) - self.var[...])
        return mean, var


class ConvNorm(nnx.Module):
    """Convolution without bias, then BatchNorm."""

    def __init__(self, c_in, c_out, size, *, stride=1, dilation=1, dtype=jnp.float32, rngs: nnx.Rngs):
        self.conv = Conv(c_in, c_out, size, stride=stride, dilation=dilation, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(c_out, dtype=dtype)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool, mask=None) -> Float[Array, "b h2 w2 c2"]:
        return self.norm(self.conv(x), train=train, mask=mask)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with a shortcut (ResNet, He et al. 2016); the shortcut convolves where the shape changes."""

    def __init__(self, c_in, c_out, *, stride=1, shortcut_size=1, dtype=jnp.float32, rngs: nnx.Rngs):
        self.conv1 = ConvNorm(c_in, c_out, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.conv2 = ConvNorm(c_out, c_out, 3, dtype=dtype, rngs=rngs)
        same_shape = stride == 1 and c_in == c_out
        self.shortcut = (
            None if same_shape else ConvNorm(c_in, c_out, shortcut_size, stride=stride, dtype=dtype, rngs=rngs)
        )

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool, mask=None) -> Float[Array, "b h2 w2 c2"]:
        y = jax.nn.relu(self.conv1(x, train=train, mask=mask))
        y = self.conv2(y, train=train, mask=mask)
        identity = x if self.shortcut is None else self.shortcut(x, train=train, mask=mask)
        return jax.nn.relu(y + identity)
