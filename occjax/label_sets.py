"""Ground truth of both label sets as dense class grids, each with the grid that its files are written on."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from occjax.classes import FREE, NUM_CLASSES
from occjax.errors import DataError
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, VoxelGrid
from occjax.storage import read_npz


class LabelSet(NamedTuple):
    """Where a label set lies: default folder under the nuScenes root, grid, and whether it tells what cameras see."""

    folder: str
    grid: VoxelGrid
    has_camera_mask: bool


LABEL_SETS = {
    "surroundocc": LabelSet("surroundocc", SURROUNDOCC_GRID, has_camera_mask=False),
    "occ3d": LabelSet("gts", OCC3D_GRID, has_camera_mask=True),
}


def label_set(name: str) -> LabelSet:
    """The label set of this name.

    Raises:
      DataError: there is none.
    """
    if name not in LABEL_SETS:
        raise DataError(f"data.labels must be one of {', '.join(LABEL_SETS)}, not {name!r}")
    return LABEL_SETS[name]


def label_path(name: str, folder: Path, *, lidar_file: str, scene_name: str, token: str) -> Path:
    """The label file of one sample in the published layout of a label set."""
    if name == "surroundocc":
        return folder / "samples" / f"{Path(lidar_file).name}.npy"
    return folder / scene_name / token / "labels.npz"


def read_labels(name: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 classes [X, Y, Z] on the label set's grid, and bool camera mask [X, Y, Z] or None.

    Raises:
      DataError: the file is truncated, of another shape, or holds values that are no voxel or class.
      OSError: the file cannot be opened.
    """
    try:
        return _read_surroundocc(path) if name == "surroundocc" else _read_occ3d(path)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise error if isinstance(error, DataError) else DataError(f"no readable {name} label file: {error}") from error


def _read_surroundocc(path: Path) -> tuple[np.ndarray, None]:
    with path.open("rb") as file:
        voxels = np.load(file, allow_pickle=False)
    shape = SURROUNDOCC_GRID.shape
    if voxels.ndim != 2 or voxels.shape[1] != 4:
        raise DataError(f"expected an array [n, 4] of x, y, z and class; found {voxels.dtype} {voxels.shape}")
    if voxels.size and (voxels.min() < 0 or np.any(voxels.max(axis=0) >= (*shape, NUM_CLASSES))):
        raise DataError(
            f"indices must lie in {shape} and classes in 0 to {NUM_CLASSES - 1}; found "
            f"{voxels.min(axis=0).tolist()} to {voxels.max(axis=0).tolist()}"
        )
    semantics = np.full(shape, FREE, np.uint8)
    x, y, z, classes = voxels.astype(np.int64, copy=False).T
    semantics.ravel()[(x * shape[1] + y) * shape[2] + z] = classes
    return semantics, None


def _read_occ3d(path: Path) -> tuple[np.ndarray, np.ndarray]:
    semantics, camera_mask = read_npz(path, ("semantics", "mask_camera")).values()
    for array, what in ((semantics, "semantics"), (camera_mask, "mask_camera")):
        if array.shape != OCC3D_GRID.shape:
            raise DataError(f"{what} must have shape {OCC3D_GRID.shape}, found {array.shape}")
    if semantics.max() >= NUM_CLASSES:
        raise DataError(f"classes must lie in 0 to {NUM_CLASSES - 1}, found {semantics.max()}")
    return semantics.astype(np.uint8, copy=False), camera_mask.astype(bool)
