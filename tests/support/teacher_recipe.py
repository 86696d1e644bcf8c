"""Weights of a teacher by recipe: a value for every entry of a checkpoint, drawn from its name, so that all agree.

Nobody's trained weights, but scaled such that every stage has something to do: depths vary, a third of the rays are
empty, Gaussians differ in size and class.
"""

import ast
import re
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

# Constants of the published models rather than draws; `grid_size` is the caller's.
_CONSTANTS = {
    "pc_range": (-50, -50, -5, 50, 50, 3),
    "pc_min": (-50, -50, -5),
    "zero_tensor": (0,),
    "empty_scalar": (10,),
    "empty_mean": (0, 0, -1),
    "empty_scale": (100, 100, 8),
    "empty_rot": (1, 0, 0, 0),
    "empty_sem": (0,) * 18,
    "empty_opa": (1,),
}
# What some entries are multiplied by after the draw.
_FACTORS = (
    (r"conv2\.conv_offset\.weight", 0.3),
    (r"conv2\.conv_offset\.bias", 7.0),
    (r"img_neck\.lateral_convs\.\d\.conv\.weight", 0.3),
    (r"lifter\.projection\.1\.weight", 0.3),
    (r"kps_generator\.learnable_fc\.weight", 0.7),
    (r"weights_fc\.weight", 0.5),
)


def recipe_value(key: str, shape: tuple[int, ...], seed: int, cell_m: float = 1.0) -> np.ndarray:
    """The entry of that name and shape."""
    name = key.rpartition(".")[2]
    if name == "num_batches_tracked":
        return np.zeros((), np.int64)
    if name == "grid_size":
        return np.full(3, cell_m, np.float32)
    if name in _CONSTANTS:
        return np.array(_CONSTANTS[name], np.float32).reshape(shape)
    values = _draw(key, name, shape, np.random.default_rng([seed, zlib.crc32(key.encode())]))
    for pattern, factor in _FACTORS:
        if re.search(f"{pattern}$", key):
            values *= factor
    if key == "lifter.projection.1.bias":
        values[-1] += 3.5  # rays that meet nothing
    if key.endswith("layers.10.bias"):
        values[3:6] -= 1.7  # smaller Gaussians
    if key.endswith("layers.10.weight"):
        values[3:6] *= 0.4
        values[-17:] *= 1.5
    return values.astype(np.float32)


def _draw(key: str, name: str, shape: tuple[int, ...], r: np.random.Generator) -> np.ndarray:
    if name == "running_mean":
        return r.normal(0, 0.1, shape)
    if name == "running_var":
        return r.uniform(0.5, 1.5, shape)
    if key in ("lifter.anchor", "lifter.random_anchors", "lifter.instance_feature"):
        values = r.normal(0, 1, shape)
        if name != "instance_feature" and shape[1] == 28:
            values[:, :3] *= 0.4 if name == "random_anchors" else 1.5
        return values
    if name == "scale":
        return r.uniform(0.7, 1.3, shape)
    if len(shape) == 1:
        if name != "weight":
            return r.normal(0, 0.1, shape)
        # The last norm of a block is small, so that 33 blocks do not explode.
        return r.uniform(0.05, 0.25, shape) if ".bn3." in key else r.uniform(0.5, 1.5, shape)
    fan = np.prod(shape[1:])
    if re.search(r"deblocks\.[123]\.0\.weight$", key):
        fan = shape[0]
    if len(shape) == 5:
        fan = 8 * shape[-1]  # few of the 125 cells around one are occupied
    return r.normal(0, np.sqrt(2 / fan), shape)


def recipe_weights(shapes: Mapping[str, tuple[int, ...]], seed: int, cell_m: float = 1.0) -> dict[str, np.ndarray]:
    """All entries of a checkpoint."""
    return {key: recipe_value(key, shape, seed, cell_m) for key, shape in shapes.items()}


def shapes_of_lines(lines: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes from lines `name (shape)`."""
    return {key: ast.literal_eval(shape) for key, shape in (line.strip().split(" ", 1) for line in lines)}


def checkpoint_shapes(variant) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a variant's checkpoint, without the counts of batches."""
    from occjax.teacher.checkpoint import buffers
    from occjax.teacher.weight_parts import entries
    from occjax.teacher.weight_tables import teacher

    return dict(entries(teacher(variant))) | {key: value.shape for key, value in buffers(variant).items()}
