"""Splat of a rig that does not move: which points fall into which cell is known, and everything is gathered.

Nothing is sorted or scattered when an image comes, so that the sum is the same in every run, on every device, and in
formats that know no scatter with a sum (TensorRT's).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from occjax.models.splat import ROW, sum_of_places


class Rows(NamedTuple):
    """Items summed by rows, each of one cell.

    Attributes:
      cell: int [R] of each row, ascending.
      item: int [R, ROW] items of each row; one that is not taken has the number of items.
    """

    cell: np.ndarray
    item: np.ndarray


class SplatPlan(NamedTuple):
    """The sums of one sample, in turns: of points, then of rows where a cell has several, until each has one.

    Attributes:
      pixel, point: int32 [R, ROW] feature pixel and point of each place; a place that is empty has point P.
      merges: int32 [R', ROW] each: rows that are summed in the next turn, counted through all turns from 1; 0 is zero.
      row_of_cell: int32 [cells] the row with a cell's whole sum; 0 where it has no point.
    """

    pixel: np.ndarray
    point: np.ndarray
    merges: tuple[np.ndarray, ...]
    row_of_cell: np.ndarray


def plan_splat(cells: Int[np.ndarray, "n h w d"], num_cells: int) -> SplatPlan:
    """The plan for points whose cells are known; `num_cells` is outside, as `lift_cells` gives it."""
    depths, flat = cells.shape[-1], cells.ravel()
    rows = _rows(flat, np.arange(flat.size), num_cells, empty=flat.size)
    # Of an empty place any pixel serves: its weight is 0.
    pixel = np.where(rows.item < flat.size, rows.item, 0) // depths
    point, merges, first = rows.item, [], 1
    cell, number = rows.cell, first + np.arange(len(rows.cell))
    row_of_cell = np.zeros(num_cells, np.int32)
    while len(cell):
        count = np.bincount(cell, minlength=num_cells)
        is_whole = count[cell] == 1
        row_of_cell[cell[is_whole]] = number[is_whole]
        if is_whole.all():
            break
        first = number[-1] + 1
        rows = _rows(cell[~is_whole], number[~is_whole], num_cells, empty=0)
        merges.append(rows.item.astype(np.int32))
        cell, number = rows.cell, first + np.arange(len(rows.cell))
    return SplatPlan(pixel.astype(np.int32), point.astype(np.int32), tuple(merges), row_of_cell)


def gather_splat(
    context: Float[Array, "b n h w c"], weights: Float[Array, "b n h w d"], plan: SplatPlan
) -> Float[Array, "b cells c"]:
    """As `occjax.models.splat.splat`, of one sample."""
    assert context.shape[0] == 1
    values = context.reshape(-1, context.shape[-1])  # [M, C]
    weight = jnp.append(weights.reshape(-1), 0.0)[plan.point]  # [R, ROW]
    rows = sum_of_places(weight, values, plan.pixel)
    rows = jnp.concatenate([jnp.zeros((1, rows.shape[1]), rows.dtype), rows])
    for merge in plan.merges:
        rows = jnp.concatenate([rows, rows[merge].sum(axis=1)])
    return rows[plan.row_of_cell][None]


def _rows(cells: np.ndarray, items: np.ndarray, num_cells: int, *, empty: int) -> Rows:
    """Rows of the items that lie in a cell, by rising cell."""
    order = np.argsort(cells, kind="stable")
    order = order[cells[order] < num_cells]
    cells, items = cells[order], items[order]
    count = np.bincount(cells, minlength=num_cells)
    rows = -(-count // ROW)
    start, first_row = np.cumsum(count) - count, np.cumsum(rows) - rows
    place = np.arange(len(cells)) - start[cells]
    item = np.full((rows.sum(), ROW), empty, np.int64)
    item[first_row[cells] + place // ROW, place % ROW] = items
    return Rows(np.repeat(np.arange(num_cells), rows), item)
