"""Splat: the weighted features of lifted points, summed per cell, without ever holding one point's features."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Points of one cell that are summed into one row before rows are added up. On real cameras with 119 bins a cell has 18
# points in the median and 674 at most: rows of 16 are three quarters full and a fifteenth as many as points.
ROW = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def splat(
    context: Float[Array, "b n h w c"],
    weights: Float[Array, "b n h w d"],
    cells: Int[Array, "b n h w d"],
    num_cells: int,
) -> Float[Array, "b cells c"]:
    """Sum over the points of each cell of weight times context; a point's cell of `num_cells` is outside.

    Points are sorted by cell, which is integers only, and summed in rows of at most ROW by gathering; what is scattered
    is a row and not a point. 6 cameras, 30 × 40 pixels, 119 depths, 128 channels: scattering every point would write
    857 thousand rows of features where this writes 61 thousand.
    """
    return jax.vmap(functools.partial(_sum_by_rows, num_cells=num_cells))(context, weights, cells)


def _sum_by_rows(context, weights, cells, *, num_cells: int) -> Float[Array, "cells c"]:
    """`splat` of one sample."""
    c, d = context.shape[-1], weights.shape[-1]
    context, weights = context.reshape(-1, c), weights.reshape(-1)  # [M, C], [M*D]
    cell, point, is_point = rows_of_points(cells.reshape(-1), num_cells)
    weights = jnp.where(is_point, weights[point], 0.0)  # [R, ROW]
    pixel = point // d

    rows = sum_of_places(weights, context, pixel)
    return jnp.zeros((num_cells, c), context.dtype).at[cell].add(rows, mode="drop", indices_are_sorted=True)


def sum_of_places(
    weights: Float[Array, "r row"], values: Float[Array, "m c"], pixel: Int[Array, "r row"] | Int[np.ndarray, "r row"]
) -> Float[Array, "r c"]:
    """Sum over the places of each row of weight times value of the place's pixel."""
    # Written out, so that one pass over the rows adds all places: as a loop it would write [R, C] for each of them, and
    # [R, ROW, C] would be larger than the points.
    return functools.reduce(operator.add, (weights[:, i, None] * values[pixel[:, i]] for i in range(ROW)))


def rows_of_points(
    cells: Int[Array, "p"], num_cells: int
) -> tuple[Int[Array, "r"], Int[Array, "r row"], Bool[Array, "r row"]]:
    """Points in rows of one cell each, by rising cell: the row's cell, its points, and which of its places are taken.

    The number of rows is that of the worst case, a cell more for every ROW points and for every cell; rows that are
    not needed have the cell `num_cells`.
    """
    order = jnp.argsort(cells)  # [P]
    start = jnp.searchsorted(cells[order], jnp.arange(num_cells + 1))  # [cells + 1] first of each cell in that order
    rows = -(-jnp.diff(start) // ROW)  # [cells], rounded up
    last_row = jnp.cumsum(rows)
    row = jnp.arange(cells.size // ROW + min(num_cells, cells.size))
    cell = jnp.searchsorted(last_row, row, side="right")  # [R]
    known = jnp.minimum(cell, num_cells - 1)
    first = start[known] + (row - (last_row - rows)[known]) * ROW
    place = first[:, None] + jnp.arange(ROW)  # [R, ROW] in the order by cell
    is_point = (cell[:, None] < num_cells) & (place < start[known + 1][:, None])
    return cell, order[jnp.where(is_point, place, 0)], is_point


def _forward(context, weights, cells, num_cells: int):
    return splat(context, weights, cells, num_cells), (context, weights, cells)


def _backward(num_cells: int, residuals, of_cells: Float[Array, "b cells c"]):
    """Gradients per pixel: every point reads its cell's, nothing is scattered, and the order of sums is fixed."""
    context, weights, cells = residuals
    b, *pixels, c = context.shape
    context = context.reshape(b, -1, c)  # [B, M, C]

    # One depth of all pixels after the other: together they would be as large as the points.
    def add_depth(of_context, at_depth):
        weight, cell = at_depth  # [B, M]
        # Outside there is no cell and no gradient.
        of_point = jax.vmap(lambda g, i: g.at[i].get(mode="fill", fill_value=0))(of_cells, cell)  # [B, M, C]
        return of_context + weight[..., None] * of_point, jnp.sum(context * of_point, axis=-1)

    def by_depth(x):
        return jnp.moveaxis(x.reshape(b, -1, x.shape[-1]), -1, 0)  # [D, B, M]

    of_context, of_weights = lax.scan(add_depth, jnp.zeros_like(context), (by_depth(weights), by_depth(cells)))
    return of_context.reshape(b, *pixels, c), jnp.moveaxis(of_weights, 0, -1).reshape(weights.shape), None


splat.defvjp(_forward, _backward)
