"""Our arrays in the layout of PyTorch: the way back, which only comparisons with it go."""

import numpy as np

from occjax.convert.torch_names import LAYOUTS, Entry


def to_torch(entry: Entry, array: np.ndarray) -> np.ndarray:
    """Their layout of our array."""
    array = np.asarray(array).transpose(np.argsort(LAYOUTS[entry.layout]))
    return np.ascontiguousarray(array[..., None, None] if entry.layout == "pointwise" else array)
