"""Parts of the checkpoint's tables: entries by name, their shapes, and the weights that a layer makes of them.

A table is a tree of the shape of the weights, with a `Part` for every leaf or group of leaves. Layouts become channels
last, and a BatchNorm becomes part of the convolution before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped

from occjax.teacher.layers import Weights

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]
Shape = tuple[int, ...]
Table = Any  # nested dicts and tuples of Part and Stack


class Part(NamedTuple):
    """Entries by name with their shapes, and the function that makes weights of them in this order."""

    shapes: dict[str, Shape]
    build: Callable[..., Weights]


class Stack(NamedTuple):
    """Tables of parts that are alike, whose weights are stacked."""

    tables: Sequence[Table]


def entries(table: Table) -> Iterator[tuple[str, Shape]]:
    """Every entry that the table reads, and its shape."""
    match table:
        case Part():
            yield from table.shapes.items()
        case dict():
            for part in table.values():
                yield from entries(part)
        case Stack():
            yield from entries(tuple(table.tables))
        case _:
            for part in table:
                yield from entries(part)


def fill(table: Table, arrays: Arrays) -> Weights:
    """The weights, float32, from arrays that have the table's names and shapes."""
    match table:
        case Part():
            return table.build(*(np.asarray(arrays[key], np.float32) for key in table.shapes))
        case dict():
            return {name: fill(part, arrays) for name, part in table.items()}
        case Stack():
            return jax.tree.map(lambda *leaves: np.stack(leaves), *(fill(part, arrays) for part in table.tables))
        case _:
            return tuple(fill(part, arrays) for part in table)


def value(key: str, *shape: int) -> Part:
    """An entry as it is."""
    return Part({key: shape}, lambda x: x)


def linear(key: str, c_in: int, c_out: int) -> Part:
    """A linear layer, its kernel transposed."""
    shapes: dict[str, Shape] = {f"{key}.weight": (c_out, c_in), f"{key}.bias": (c_out,)}
    return Part(shapes, lambda weight, bias: {"kernel": weight.T, "bias": bias})


def norm(key: str, channels: int) -> Part:
    """A layer normalisation."""
    shapes: dict[str, Shape] = {f"{key}.weight": (channels,), f"{key}.bias": (channels,)}
    return Part(shapes, lambda weight, bias: {"scale": weight, "bias": bias})


def mlp(key: str, c_in: int, channels: int) -> Table:
    """Two layers of linear, ReLU, normalisation, of which the ReLU counts in the numbering."""
    return tuple(
        {"linear": linear(f"{key}.{i}", width, channels), "norm": norm(f"{key}.{i + 2}", channels)}
        for i, width in ((0, c_in), (3, channels))
    )


def conv(key: str, c_in: int, c_out: int, size: int) -> Part:
    """A convolution with bias."""
    shapes: dict[str, Shape] = {f"{key}.weight": (c_out, c_in, size, size), f"{key}.bias": (c_out,)}
    return Part(shapes, lambda weight, bias: {"kernel": weight.transpose(2, 3, 1, 0), "bias": bias})


def conv_norm(
    key: str,
    norm_key: str,
    shape: Shape,
    *,
    epsilon: float = 1e-5,
    c_out_axis: int = 0,
    layout: Callable = lambda weight: weight.transpose(2, 3, 1, 0),
) -> Part:
    """A convolution without bias and the BatchNorm after it, as one convolution with bias.

    Args:
      key: of the convolution.
      norm_key: of its BatchNorm.
      shape: of the kernel.
      epsilon: of the BatchNorm.
      c_out_axis: of the kernel; transposed convolutions have it second.
      layout: makes ours of their kernel.
    """
    channels = (shape[c_out_axis],)
    names = ("weight", "bias", "running_mean", "running_var")

    def build(kernel, scale, shift, mean, variance):
        factor = scale / np.sqrt(variance + np.float32(epsilon))
        folded = kernel * factor.reshape([-1 if axis == c_out_axis else 1 for axis in range(4)])
        return {"kernel": np.ascontiguousarray(layout(folded)), "bias": shift - mean * factor}

    return Part({f"{key}.weight": shape, **{f"{norm_key}.{name}": channels for name in names}}, build)
