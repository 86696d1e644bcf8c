"""Submanifold convolution: Gaussians exchange features with those in the 5x5x5 cells around them (Graham et al. 2018).

Cells may hold several Gaussians, which the library behind the published models never merges. What it computes then is
part of the models: one Gaussian represents its cell, on a CPU the first. The 62 taps before the centre read the sum
over a cell, and only representatives receive from them; the 62 taps behind it read representatives, and all receive. On
a GPU that library takes whichever Gaussian was written last and may lose others from the sum: no two of its runs agree,
and `DuplicateRule` has the ends of what it may have done, to compare with a dump that was made on one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from occjax.teacher.anchors import EXTENT_M, LOWER_M
from occjax.teacher.layers import PRECISION, Weights, layer_norm, linear
from occjax.teacher.variants import DuplicateRule

WIDTH = 5
REACH = WIDTH // 2
TAPS = WIDTH**3
CENTRE = TAPS // 2


class Neighbours(NamedTuple):
    """Which Gaussian represents which cell; one table for all convolutions of a block.

    Attributes:
      representative: of each Gaussian's cell.
      represents: whether it is that one.
      rows: of each tap and Gaussian, the representative of the cell that the tap reads; G where that is empty.
    """

    representative: Int[Array, "g"]
    represents: Bool[Array, "g"]
    rows: Int[Array, "taps g"]


def cells_of(means: Float[Array, "g 3"], cell_m: float) -> Int[Array, "g 3"]:
    """Cells of positions in metres, which lie inside the grid."""
    return ((means - LOWER_M) / cell_m).astype(jnp.int32)


def grid_shape(cell_m: float) -> tuple[int, int, int]:
    """Cells along x, y, z."""
    x, y, z = (round(float(extent) / cell_m) for extent in EXTENT_M)
    return x, y, z


def find_neighbours(
    cells: Int[Array, "g 3"], shape: tuple[int, int, int], rule: DuplicateRule = "cpu_first"
) -> Neighbours:
    """The tables of Gaussians in these cells of a grid of this shape."""
    g = len(cells)
    # A margin as wide as the taps reach: cells outside are empty ones.
    strides = np.array([(shape[1] + 2 * REACH) * (shape[2] + 2 * REACH), shape[2] + 2 * REACH, 1], np.int32)
    place = ((cells + REACH) * strides).sum(-1)
    size = (shape[0] + 2 * REACH) * int(strides[0])
    numbers = jnp.arange(g, dtype=jnp.int32)
    if rule == "cpu_last":
        of_cell = jnp.full(size, -1, jnp.int32).at[place].max(numbers)
        of_cell = jnp.where(of_cell < 0, g, of_cell)
    else:
        of_cell = jnp.full(size, g, jnp.int32).at[place].min(numbers)
    taps = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1)] * 3, indexing="ij"), axis=-1).reshape(TAPS, 3)
    representative = of_cell[place]
    return Neighbours(representative, representative == numbers, of_cell[place + (taps @ strides)[:, None]])


def submanifold_conv(
    weights: Weights, x: Float[Array, "g c"], neighbours: Neighbours, rule: DuplicateRule = "cpu_first"
) -> Float[Array, "g d"]:
    """The convolution with kernel [125, C, D], its taps in the order x, y, z, and a bias if there is one."""
    kernel = weights["kernel"]
    empty = jnp.zeros((1, x.shape[1]))
    of_cells = x if rule == "one_of" else jax.ops.segment_sum(x, neighbours.representative, len(x))

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
    y = own + jnp.where(neighbours.represents[:, None], before, 0.0) + behind
    return y + weights["bias"] if "bias" in weights else y


def submanifold_block(
    weights: Weights,
    x: Float[Array, "g c"],
    means: Float[Array, "g 3"],
    cell_m: float,
    rule: DuplicateRule = "cpu_first",
) -> Float[Array, "g c"]:
    """Convolutions with normalisation and ReLU, then a linear layer; version 1 has one convolution, bare."""
    neighbours = find_neighbours(cells_of(means, cell_m), grid_shape(cell_m), rule)
    for layer in weights["layers"]:
        x = submanifold_conv(layer["conv"], x, neighbours, rule)
        if "norm" in layer:
            x = jax.nn.relu(layer_norm(layer["norm"], x))
    return linear(weights["output"], x) if "output" in weights else x
