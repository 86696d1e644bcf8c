"""Bilinear sampling between pixels: which four rows of a flattened map, and how much of each, with zeros outside."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CORNERS = 4


def corners(
    y: Float[Array, "*axes"], x: Float[Array, "*axes"], height: int, width: int
) -> tuple[Int[Array, "*axes 4"], Float[Array, "*axes 4"]]:
    """Rows of a map flattened to [H*W, C] and their weights.

    Args:
      y: row position, pixel centres being whole numbers.
      x: column position, likewise.
      height: of the map; likewise width.

    Returns:
      index, within the map also where the corner is outside, and weight, 0 where it is.
    """
    top, left = jnp.floor(y), jnp.floor(x)
    rows = jnp.stack([top, top, top + 1, top + 1], axis=-1)
    columns = jnp.stack([left, left + 1, left, left + 1], axis=-1)
    weight = (1 - jnp.abs(y[..., None] - rows)) * (1 - jnp.abs(x[..., None] - columns))
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Clipped as floats: a position may be too large for an integer.
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    index = rows.astype(jnp.int32) * width + columns.astype(jnp.int32)
    return index, jnp.where(is_inside, weight, 0.0)
