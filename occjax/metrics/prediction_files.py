"""Prediction files: one small file per sample token, with the grid it lies on."""

import json
from pathlib import Path

import numpy as np

from occjax.classes import NUM_CLASSES
from occjax.grid import VoxelGrid
from occjax.metrics.confusion import ScoringError
from occjax.npz import read_npy, read_npz
from occjax.storage import writing

# The first of these that a file holds is read; what other projects' dumps call it, and what numpy calls no name.
_ARRAY_NAMES = ("semantics", "prediction", "pred", "logits", "arr_0")
_NPY_MAGIC = b"\x93NUMPY"
_LARGEST_ARRAY = 1 << 28  # scores of 18 classes on 200×200×16 voxels in float64 are 92 MB


def write_prediction(folder: Path, token: str, semantics: np.ndarray, grid: VoxelGrid) -> Path:
    """Writes `<folder>/<token>.npz` with `semantics` uint8 [X, Y, Z] and `grid`."""
    path = folder / f"{token}.npz"
    with writing(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, semantics=semantics.astype(np.uint8), grid=json.dumps(grid.to_dict()))
    return path


def read_prediction(path: Path) -> tuple[np.ndarray, VoxelGrid | None]:
    """Classes [X, Y, Z] and the grid, None where the file names none.

    A `.npy` holds the classes or their scores; an `.npz` holds them as `semantics`, `prediction`, `pred`, `logits` or
    its only array beside `grid`. Scores (logits or probabilities, [X, Y, Z, 18] or [18, X, Y, Z]) become their argmax.

    Raises:
      ScoringError: the file is absent, damaged, or holds no class grid.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_NPY_MAGIC):
            return _classes(read_npy(data, path.name), path), None
        arrays = read_npz(data, largest=_LARGEST_ARRAY)
        names = [n for n in _ARRAY_NAMES if n in arrays][:1] or [n for n in arrays if n != "grid"]
        if len(names) != 1:
            raise ScoringError(f"{path} holds {list(arrays)}; name the class grid `semantics`")
        grid = json.loads(str(arrays["grid"])) if "grid" in arrays else None
        return _classes(arrays[names[0]], path), grid and VoxelGrid.from_dict(grid)
    except FileNotFoundError as error:
        raise ScoringError(f"there is no file {path}; name one that exists") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, ScoringError):
            raise
        raise ScoringError(f"prediction {path} cannot be read ({error}); write it again") from error


def _classes(array: np.ndarray, path: Path) -> np.ndarray:
    """Integers [X, Y, Z] of classes [X, Y, Z] or of scores with the class axis first or last."""
    if array.ndim == 3 and array.dtype.kind in "iu":
        return array
    class_axes = [axis for axis in (0, -1) if array.ndim == 4 and array.shape[axis] == NUM_CLASSES]
    if len(class_axes) != 1 or array.dtype.kind not in "iuf":
        raise ScoringError(
            f"{path} must hold integer classes [X, Y, Z] or scores [X, Y, Z, {NUM_CLASSES}], found {array.dtype} "
            f"{array.shape}; store the argmax"
        )
    # `argmax` takes NaN for the largest, so that one would be class 0 to 17 silently.
    if np.isnan(array).any():
        raise ScoringError(f"{path} holds scores that are no number (NaN); mend the model that wrote it")
    return array.argmax(class_axes[0]).astype(np.uint8)
