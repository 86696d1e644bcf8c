"""Submanifold convolution: Gaussians exchange features with those in the 5x5x5 cells around them (Graham et al. 2018).

Cells may hold several Gaussians, which the library behind the published models never merges. What it computes then is
part of the models: the first Gaussian of a cell stands for it. The 62 taps before the centre read the sum over a cell,
and only first Gaussians receive from them; the 62 taps behind it read first Gaussians, and all receive. On a GPU that
library takes whichever Gaussian was written last, and may lose some: no two of its runs agree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from occjax.teacher.anchors import EXTENT_M, LOWER_M
from occjax.teacher.layers import PRECISION, Weights, layer_norm, linear

WIDTH = 5
REACH = WIDTH // 2
TAPS = WIDTH**3
CENTRE = TAPS // 2


class Neighbours(NamedTuple):
    """Which Gaussian stands for which cell; one table for all convolutions of a block.

    Attributes:
      first: of each Gaussian, the first one of its cell.
      is_first: whether it is that one.
      rows: of each tap and Gaussian, the first one of the cell that the tap reads; G where that is empty.
    """

    first: Int[Array, "g"]
    is_first: Bool[Array, "g"]
    rows: Int[Array, "taps g"]


def cells_of(means: Float[Array, "g 3"], cell_m: float) -> Int[Array, "g 3"]:
    """Cells of positions in metres, which lie inside the grid."""
    return ((means - LOWER_M) / cell_m).astype(jnp.int32)


def grid_shape(cell_m: float) -> tuple[int, int, int]:
    """Cells along x, y, z."""
    x, y, z = (round(float(extent) / cell_m) for extent in EXTENT_M)
    return x, y, z


def find_neighbours(cells: Int[Array, "g 3"], shape: tuple[int, int, int]) -> Neighbours:
    """The tables of Gaussians in these cells of a grid of this shape."""
    g = len(cells)
    # A margin as wide as the taps reach: cells outside are empty ones.
    strides = np.array([(shape[1] + 2 * REACH) * (shape[2] + 2 * REACH), shape[2] + 2 * REACH, 1], np.int32)
    place = ((cells + REACH) * strides).sum(-1)
    size = (shape[0] + 2 * REACH) * int(strides[0])
    first_in = jnp.full(size, g, jnp.int32).at[place].min(jnp.arange(g, dtype=jnp.int32))
    taps = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1)] * 3, indexing="ij"), axis=-1).reshape(TAPS, 3)
    first = first_in[place]
    return Neighbours(first, first == jnp.arange(g), first_in[place + (taps @ strides)[:, None]])


def submanifold_conv(weights: Weights, x: Float[Array, "g c"], neighbours: Neighbours) -> Float[Array, "g d"]:
    """The convolution with kernel [125, C, D], its taps in the order x, y, z, and a bias if there is one."""
    kernel = weights["kernel"]
    empty = jnp.zeros((1, x.shape[1]))
    of_cells = jax.ops.segment_sum(x, neighbours.first, len(x))

    def collect(source, taps):
        source = jnp.concatenate([source, empty])

        def add_tap(total, tap):
            kernel, rows = tap
            read = source.at[rows].get(mode="promise_in_bounds")
            return total + jnp.matmul(read, kernel, precision=PRECISION), None

        total = jnp.zeros((len(x), kernel.shape[-1]))
        return jax.lax.scan(add_tap, total, (kernel[taps], neighbours.rows[taps]))[0]

    before, behind = collect(of_cells, slice(0, CENTRE)), collect(x, slice(CENTRE + 1, TAPS))
    own = jnp.matmul(x, kernel[CENTRE], precision=PRECISION)
    y = own + jnp.where(neighbours.is_first[:, None], before, 0.0) + behind
    return y + weights["bias"] if "bias" in weights else y


def submanifold_block(
    weights: Weights, x: Float[Array, "g c"], means: Float[Array, "g 3"], cell_m: float
) -> Float[Array, "g c"]:
    """Convolutions with normalisation and ReLU, then a linear layer; version 1 has one convolution, bare."""
    neighbours = find_neighbours(cells_of(means, cell_m), grid_shape(cell_m))
    for layer in weights["layers"]:
        x = submanifold_conv(layer["conv"], x, neighbours)
        if "norm" in layer:
            x = jax.nn.relu(layer_norm(layer["norm"], x))
    return linear(weights["output"], x) if "output" in weights else x
