"""Rules on the arrays of a teacher file: kind, shape and range, as its grid says."""

import numpy as np

from occjax.classes import NUM_CLASSES
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.targets.codec import level_bytes

# Of a grid: SurroundOcc's and Occ3D's have 640,000.
MOST_VOXELS = 1 << 24
# Probabilities are floored at 1e-6, and float16 rounds; -inf would make every divergence NaN.
_LEAST_LOG, _ROUNDING = -1e3, 1e-2
_KINDS = {"f": "floating point numbers", "u": "bytes", "b": "a mask"}


def require_sound(arrays: dict[str, np.ndarray], grid: VoxelGrid) -> None:
    """Raises DataError where arrays are not of the kind, shape and range that a teacher file of a grid holds."""
    x, y, z = grid.shape
    rows, levels = arrays["free"].size if "free" in arrays else 0, level_bytes(NUM_CLASSES)
    voxel_bits, cell_bits = (-(-count // 8) for count in (grid.num_voxels, x * y))
    kinds = {
        "voxel_logits": ("f", (x, y, z, NUM_CLASSES)),
        "bev_logits": ("f", (x, y, NUM_CLASSES)),
        # Of a compact file bits, of a dense one a mask.
        "valid": ("u", (voxel_bits,)) if "voxel_logits" not in arrays else ("b", (x, y, z)),
        "active": ("u", (voxel_bits,)),
        "free": ("u", (rows,)),
        "levels": ("u", (levels, rows)),
        "background": ("f", (NUM_CLASSES,)),
        "bev_free": ("u", (x, y)),
        "bev_levels": ("u", (levels, x, y)),
        "bev_valid": ("u", (cell_bits,)),
    }
    for name, (kind, shape) in kinds.items():
        array = arrays.get(name)
        if array is None:
            continue
        if (array.dtype.kind, array.shape) != (kind, shape) or (kind == "u" and array.itemsize != 1):
            raise DataError(f"{name} must be {_KINDS[kind]} {shape}, found {array.dtype} {array.shape}")
        # Logarithms of probabilities; a comparison that NaN fails too.
        if kind == "f" and not (array.min() >= _LEAST_LOG and array.max() <= _ROUNDING):
            raise DataError(f"{name} must hold log-probabilities, found {array.min():g} to {array.max():g}")
    if "active" in arrays and int(np.unpackbits(arrays["active"], count=grid.num_voxels).sum()) != rows:
        raise DataError(f"its bits name another number of active voxels than the {rows} that have a row")
    if not {"voxel_logits", "bev_logits", "free", "bev_free"} & arrays.keys():
        raise DataError(f"it holds neither voxels nor a BEV map, but {', '.join(arrays)}")
