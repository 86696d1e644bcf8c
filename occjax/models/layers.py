"""Layers: the convolution, normalisation and residual block that every stage of the student is made of."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from occjax.system.cpu import column_sums

# Share of the old value that a running statistic keeps (PyTorch calls 1 - this its momentum).
RUNNING_DECAY = 0.9
EPSILON = 1e-5  # PyTorch's, with which the statistics of imported weights were made


def draw_normal(key: PRNGKeyArray, shape: tuple[int, ...], std: float) -> Float[Array, "..."]:
    """Normal float32 numbers of mean 0, drawn on the host.

    XLA would compile a generator for every shape of the model, which takes far longer than drawing.
    """

    def draw(key_data):
        generator = np.random.default_rng(np.asarray(key_data))
        return generator.standard_normal(shape, np.float32) * np.float32(std)

    key_data = jax.random.key_data(key)
    if not isinstance(key_data, jax.core.Tracer):
        return jnp.asarray(draw(key_data))
    # A callback, so that `jax.eval_shape` gives the shapes without drawing anything. Not for drawing outside of it:
    # each shape's callback would be a program to compile.
    return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, jnp.float32), key_data)


def constant(value: float, channels: int) -> Float[Array, "c"]:
    """One float32 number for every channel, made on the host like the random ones."""
    return jnp.asarray(np.full(channels, value, np.float32))


@jax.custom_vjp
def add_bias(x: Float[Array, "*axes c"], bias: Float[Array, "c"]) -> Float[Array, "*axes c"]:
    """`x + bias` in the type of x, with the bias's gradient through `column_sums`."""
    return x + bias.astype(x.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda _, g: (g, column_sums(g)))


@jax.custom_vjp
def batch_normalize(x: Float[Array, "b *axes c"], weight: Float[Array, "b"], scale, shift):
    """`x` normalised by its own statistics, then scaled and shifted, in the type of x; and mean and variance, float32.

    Rows of the first axis count `weight` (0 or 1) times in the statistics. Mean and variance are for the running
    statistics and pass no gradient. The gradient is written out: left to autodiff it takes several passes more.
    """
    # At least 1: without a valid row the statistics are 0 and not 0 / 0.
    count = jnp.maximum(weight.sum() * math.prod(x.shape[1:-1]), 1)
    mean = column_sums(x, weight) / count
    # Around the mean: the difference of E[x²] and E[x]² cancels where the mean is large.
    var = column_sums(jnp.square(x.astype(jnp.float32) - mean), weight) / count
    gain = scale * jax.lax.rsqrt(var + EPSILON)
    return (x * gain + (shift - mean * gain)).astype(x.dtype), mean, var


def _batch_normalize_forward(x, weight, scale, shift):
    y, mean, var = batch_normalize(x, weight, scale, shift)
    # x is kept rather than its normalised form: in bfloat16 it is half as large.
    return (y, mean, var), (x, weight, scale, mean, jax.lax.rsqrt(var + EPSILON))


def _batch_normalize_backward(residuals, gradients):
    x, weight, scale, mean, inverse_std = residuals
    g = gradients[0].astype(jnp.float32)
    count = jnp.maximum(weight.sum() * math.prod(x.shape[1:-1]), 1)
    normalized = (x.astype(jnp.float32) - mean) * inverse_std
    of_scale, of_shift = column_sums(g * normalized), column_sums(g)
    share = (weight / count).reshape(-1, *[1] * (x.ndim - 1))  # [B, 1, ..., 1]; masked rows moved no statistic
    of_x = scale * inverse_std * (g - share * (of_shift + normalized * of_scale))
    return of_x.astype(x.dtype), jnp.zeros_like(weight), of_scale, of_shift


batch_normalize.defvjp(_batch_normalize_forward, _batch_normalize_backward)


def pointwise(x: Float[Array, "*axes c"], kernel: Float[Array, "c c2"]) -> Float[Array, "*axes c2"]:
    """`x @ kernel` over the last axis, as one matrix product: its gradient needs no transposed copies."""
    # [*axes, C] as [M, C] and back
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Conv(nnx.Module):
    """2D convolution over [B, H, W, C] (or [B, X, Y, C]), padded by half the dilated kernel as PyTorch models are.

    Attributes:
      kernel: float32 [k, k, c_in, c_out], He initialised for the ReLU that follows, times `gain`.
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
        gain: float = 1.0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if stride not in (1, 2) or (stride == 2 and dilation > 1):
            raise ValueError(f"a convolution strides by 1 or 2, dilated at stride 1 only; found {stride}, {dilation}")
        # By fan out, as torchvision initialises its ResNets: it keeps the size of gradients.
        he_std = math.sqrt(2.0 / (size * size * c_out))
        self.kernel = nnx.Param(draw_normal(rngs.params(), (size, size, c_in, c_out), gain * he_std))
        self.bias = nnx.Param(constant(0.0, c_out)) if use_bias else None
        self.stride, self.dilation, self.dtype = stride, dilation, dtype

    def __call__(self, x: Float[Array, "b h w c"], scale: Float[Array, "c2"] | None = None):
        """[B, H', W', c_out]; `scale` multiplies the output channels, folded into the kernel."""
        # Scaled in float32 and rounded once, to the type of computation.
        kernel = self.kernel[...] if scale is None else self.kernel[...] * scale
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if kernel.shape[0] == 1:
            # A strided 1x1 convolution reads every other pixel; dropping them first spares the gradient the zeros.
            y = pointwise(x[:, :: self.stride, :: self.stride], kernel[0, 0])
        else:
            # Not "SAME", which at stride 2 pads on one side only.
            pad = self.dilation * (kernel.shape[0] // 2)
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=[(pad, pad), (pad, pad)],
                rhs_dilation=(self.dilation, self.dilation),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return y if self.bias is None else add_bias(y, self.bias[...])


class Dense(nnx.Module):
    """Linear map of the last axis with bias; kernel float32 [c_in, c_out], He initialised unless `std` is given."""

    def __init__(self, c_in: int, c_out: int, *, std: float | None = None, dtype=jnp.float32, rngs: nnx.Rngs):
        std = math.sqrt(2.0 / c_in) if std is None else std
        self.kernel = nnx.Param(draw_normal(rngs.params(), (c_in, c_out), std))
        self.bias = nnx.Param(constant(0.0, c_out))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*axes c"]) -> Float[Array, "*axes c2"]:
        return add_bias(pointwise(x.astype(self.dtype), self.kernel[...].astype(self.dtype)), self.bias[...])


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's conventions.

    Own code rather than flax's because the running variance is the unbiased one, as in the imported model (over the
    six cameras of one sample that is a factor 1.2), and because rows may be masked: the black image of a missing
    camera counts in no statistic.
    """

    def __init__(self, channels: int, *, dtype=jnp.float32):
        self.scale = nnx.Param(constant(1.0, channels))
        self.bias = nnx.Param(constant(0.0, channels))
        self.mean = nnx.BatchStat(constant(0.0, channels))
        self.var = nnx.BatchStat(constant(1.0, channels))
        self.dtype = dtype

    def __call__(
        self, x: Float[Array, "b *axes c"], *, train: bool, mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b *axes c"]:
        """Normalises `x`; in training by the statistics of the rows where `mask` holds, which move the running ones."""
        if not train:
            scale, shift = self.running_scale_shift()
            return (x * scale + shift).astype(self.dtype)
        weight = jnp.ones(x.shape[0]) if mask is None else mask.astype(jnp.float32)
        y, mean, var = batch_normalize(x.astype(self.dtype), weight, self.scale[...], self.bias[...])
        count = weight.sum() * math.prod(x.shape[1:-1])
        # A batch without a single valid row moves nothing.
        rate = jnp.where(count > 0, 1 - RUNNING_DECAY, 0.0)
        self.mean[...] += rate * (mean - self.mean[...])
        self.var[...] += rate * (var * count / jnp.maximum(count - 1, 1) - self.var[...])
        return y

    def running_scale_shift(self) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
        """What normalising by the running statistics multiplies by and adds."""
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + EPSILON)
        return scale, self.bias[...] - self.mean[...] * scale


class ConvNorm(nnx.Module):
    """Convolution without bias, then BatchNorm."""

    def __init__(self, c_in, c_out, size, *, stride=1, dilation=1, dtype=jnp.float32, rngs: nnx.Rngs):
        self.conv = Conv(c_in, c_out, size, stride=stride, dilation=dilation, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(c_out, dtype=dtype)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool, mask=None) -> Float[Array, "b h2 w2 c2"]:
        if train:
            return self.norm(self.conv(x), train=True, mask=mask)
        # With fixed statistics the norm is an affine map: its scale goes into the kernel.
        scale, shift = self.norm.running_scale_shift()
        return add_bias(self.conv(x, scale), shift)


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
