"""Feature pyramid: maps of all strides are brought together (Lin et al. 2017)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from occjax.models.layers import Conv


class FPN(nnx.Module):
    """1x1 laterals, nearest-neighbour top-down sum, 3x3 outputs, all with bias.

    The student reads the output of stride 16 only; under jit the others are never computed, but their weights are part
    of the model that is imported and exported.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, *, dtype=jnp.float32, rngs: nnx.Rngs):
        self.laterals = nnx.List([Conv(c, channels, 1, use_bias=True, dtype=dtype, rngs=rngs) for c in in_channels])
        self.outputs = nnx.List(
            [Conv(channels, channels, 3, use_bias=True, dtype=dtype, rngs=rngs) for _ in in_channels]
        )

    def __call__(self, features: tuple[Float[Array, "b _ _ _"], ...]) -> tuple[Float[Array, "b _ _ c"], ...]:
        """One map per input, same strides as the inputs (finest first)."""
        merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for fine in range(len(merged) - 2, -1, -1):
            rows, columns = merged[fine].shape[1:3]
            # An odd side was rounded up when it was halved: doubled, the coarse map is one pixel too large.
            coarse = jnp.repeat(jnp.repeat(merged[fine + 1], 2, axis=1), 2, axis=2)
            merged[fine] = merged[fine] + coarse[:, :rows, :columns]
        return tuple(output(x) for output, x in zip(self.outputs, merged, strict=True))
