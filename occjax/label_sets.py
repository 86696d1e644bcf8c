"""Label sets: what SurroundOcc and Occ3D call ground truth, one object each that is asked instead of its name.

A further label set is one more entry of `LABEL_SETS` and one reader.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from occjax.classes import FREE, NUM_CLASSES, OTHERS
from occjax.errors import DataError
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, VoxelGrid
from occjax.npz import ArrayFileError, read_npy, read_npz
from occjax.pooling import pool_labels, pooling_factor, refined

# Classes uint8 [X, Y, Z] and what the cameras see, bool [X, Y, Z] or None.
Labels = tuple[np.ndarray, np.ndarray | None]
_CLASSES = "classes (0 others, 1 to 16 as CLASS_NAMES, 17 free)"


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """Where the ground truth of a label set lies, how it is read, and which of its voxels count.

    Attributes:
      name: as data.labels says it.
      grid: that its files are written on.
      folder: default folder below the nuScenes root.
      file: path of a sample's file in that folder, with {lidar_file}, {scene_name} and {token} filled in.
      reader: bytes of a file and the grid to `Labels`; raises DataError.
      ignored: classes that neither losses nor metrics count.
      has_camera_mask: whether the files tell which voxels the cameras see.
      protocol: published protocol that scores it, a key of `occjax.metrics.protocols`.
    """

    name: str
    grid: VoxelGrid
    folder: str
    file: str
    reader: Callable[[bytes, VoxelGrid], Labels]
    ignored: tuple[int, ...]
    has_camera_mask: bool
    protocol: Literal["surroundocc", "occ3d"]

    @property
    def classes(self) -> tuple[int, ...]:
        """What metrics average over: all classes but free and the ignored ones."""
        return tuple(c for c in range(FREE) if c not in self.ignored)

    def path(self, folder: Path, *, lidar_file: str, scene_name: str, token: str) -> Path:
        """The label file of one sample in the published layout."""
        return folder / self.file.format(lidar_file=Path(lidar_file).name, scene_name=scene_name, token=token)

    def read(self, path: Path) -> Labels:
        """Classes and camera mask of a file, on `grid`.

        Raises:
          DataError: the file is truncated, of another shape, or holds values that are no voxel or class.
          OSError: the file cannot be opened.
        """
        return self.decode(path.read_bytes())

    def decode(self, data: bytes) -> Labels:
        """As `read`, from a file's bytes."""
        try:
            return self.reader(data, self.grid)
        except ArrayFileError as error:
            raise DataError(f"no readable {self.name} label file: {error}") from error

    def on(self, grid: VoxelGrid, labels: Labels) -> Labels:
        """What `read` returns, on a grid that is an aligned crop of the label set's, or its voxels pooled.

        Raises:
          GridMismatchError: it is neither.
        """
        factor = pooling_factor(self.grid, grid)
        crop = self.grid.crop_slices(refined(grid, factor))
        semantics, mask = labels[0][crop], None if labels[1] is None else labels[1][crop]
        return (semantics, mask) if factor == 1 else pool_labels(semantics, mask, factor)

    def counted(self, semantics: Any, camera_mask: Any | None = None) -> Any:
        """The one rule for which voxels count, in losses and metrics, on numpy and jax arrays alike.

        A voxel counts if its class is known (255 and whatever else is no class is not), is not one that the label set
        ignores, and, where a camera mask is given, if the cameras see it.

        Args:
          semantics: integer [..., X, Y, Z] truth.
          camera_mask: bool or integer of the same shape, or None to count what no camera sees too.

        Returns:
          bool, of the same shape.
        """
        # Operators alone, no function of numpy or jax: both kinds of arrays have them.
        counted = (semantics >= 0) & (semantics < NUM_CLASSES)
        for ignored in self.ignored:
            counted = counted & (semantics != ignored)
        return counted if camera_mask is None else counted & (camera_mask != 0)


def _read_surroundocc(data: bytes, grid: VoxelGrid) -> Labels:
    """A list [n, 4] of x, y, z and class; what is not listed is free, the published layout has no unknown voxels."""
    voxels = read_npy(data)
    shape = grid.shape
    if voxels.ndim != 2 or voxels.shape[1] != 4 or voxels.dtype.kind not in "iuf":
        raise DataError(f"expected an array [n, 4] of x, y, z and class; found {voxels.dtype} {voxels.shape}")
    for axis, length in enumerate(shape):
        _require_whole(voxels[:, axis], length - 1, f"indices along {'xyz'[axis]}")
    _require_whole(voxels[:, 3], FREE, _CLASSES)
    semantics = np.full(shape, FREE, np.uint8)
    # Flat indices, wide enough for x * y * z, whatever small integers the file holds.
    x, y, z, classes = voxels.astype(np.int64, copy=False).T
    semantics.ravel()[(x * shape[1] + y) * shape[2] + z] = classes
    return semantics, None


def _read_occ3d(data: bytes, grid: VoxelGrid) -> Labels:
    """Dense `semantics` and `mask_camera` [X, Y, Z]; its third array, the LiDAR's mask, scores nothing."""
    names = ("semantics", "mask_camera")
    # Of the right shape and the widest numbers, none is larger; a file that says otherwise is not unpacked.
    semantics, camera_mask = read_npz(data, names, largest=grid.num_voxels * 8).values()
    for array, what in zip((semantics, camera_mask), names, strict=True):
        if array.shape != grid.shape or array.dtype.kind not in "biuf":
            raise DataError(f"{what} must have shape {grid.shape} and hold numbers, found {array.dtype} {array.shape}")
    # Occ3D's own labels hold no 255: what no sensor saw is left to the masks.
    _require_whole(semantics, FREE, f"{_CLASSES}, and what nobody knows has 0 in mask_camera;")
    _require_whole(camera_mask, 1, "mask_camera: values")
    semantics = semantics.astype(np.uint8, copy=False)
    # No scene fills 80 m by 80 m by 6.4 m.
    if not (semantics == FREE).any():
        raise DataError(
            f"no voxel is of class {FREE} (free), the largest is {semantics.max()}: is {semantics.max()} free here, as "
            "in the class list of OpenOcc? Occ3D's classes are 0 (others) to 16 (vegetation) and 17 (free)"
        )
    return semantics, camera_mask.astype(bool)


def _require_whole(values: np.ndarray, largest: int, what: str) -> None:
    """Raises DataError unless every value is finite, whole and in 0 to `largest`: the one rule of both readers."""
    if not values.size:
        return
    # The usual case first, in one pass each; a comparison with NaN is false.
    if (
        values.min() >= 0
        and values.max() <= largest
        and (values.dtype.kind != "f" or (values == np.trunc(values)).all())
    ):
        return
    with np.errstate(invalid="ignore"):
        is_wrong = ~((values >= 0) & (values <= largest) & (values == np.trunc(values)))
    finite = values[np.isfinite(values)]
    found = f"from {finite.min():g} to {finite.max():g}" if finite.size else "none finite"
    odd = values.size - finite.size
    raise DataError(
        f"{what} must be whole numbers from 0 to {largest}, but {np.count_nonzero(is_wrong)} of {values.size} are not; "
        f"the values are {found}{f', {odd} of them NaN or infinite' if odd else ''}"
    )


LABEL_SETS = {
    label_set.name: label_set
    for label_set in (
        LabelSet(
            name="surroundocc",
            grid=SURROUNDOCC_GRID,
            folder="surroundocc",
            file="samples/{lidar_file}.npy",
            reader=_read_surroundocc,
            ignored=(OTHERS,),  # noise: unlabelled points of the aggregated sweeps
            has_camera_mask=False,
            protocol="surroundocc",
        ),
        LabelSet(
            name="occ3d",
            grid=OCC3D_GRID,
            folder="gts",
            file="{scene_name}/{token}/labels.npz",
            reader=_read_occ3d,
            ignored=(),  # "others" is a class of the benchmark here
            has_camera_mask=True,
            protocol="occ3d",
        ),
    )
}


def label_set(name: str) -> LabelSet:
    """The label set of this name.

    Raises:
      DataError: there is none.
    """
    if name not in LABEL_SETS:
        raise DataError(f"data.labels must be one of {', '.join(LABEL_SETS)}, not {name!r}")
    return LABEL_SETS[name]


def label_set_of_grid(grid: VoxelGrid) -> LabelSet:
    """The label set that a grid is compared with: the one whose grid it is, or a crop of, else one in its frame.

    Raises:
      DataError: no label set lies in the frame.
    """
    # A student's own grid need not be a crop of any: then its frame decides.
    in_frame = [candidate for candidate in LABEL_SETS.values() if candidate.grid.frame == grid.frame]
    if not in_frame:
        raise DataError(f"no label set lies in the {grid.frame} frame; there are {', '.join(LABEL_SETS)}")
    return next((candidate for candidate in in_frame if candidate.grid.contains(grid)), in_frame[0])
