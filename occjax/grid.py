"""Voxel grids as typed values: frame, lower corner, voxel size and shape travel with every array of voxels."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from occjax.errors import UserError

FRAMES = ("lidar", "ego")
# Around a car. Beyond these a number was mistyped, or read from a file that was damaged.
_SMALLEST_M, _FARTHEST_M, _MOST_VOXELS = 1e-3, 1e4, 10_000


class GridMismatchError(UserError):
    """Two voxel arrays that should share a grid do not."""


@dataclasses.dataclass(frozen=True)
class VoxelGrid:
    """An axis-aligned block of cubic voxels in a sensor frame at keyframe time.

    Attributes:
      frame: "lidar" (LIDAR_TOP: x right, y forward, z up) or "ego" (x forward, y left, z up).
      lower_m: lower corner (x, y, z) of voxel [0, 0, 0], metres.
      voxel_size_m: edge length of a voxel, metres.
      shape: number of voxels along x, y, z.
    """

    frame: str
    lower_m: tuple[float, float, float]
    voxel_size_m: float
    shape: tuple[int, int, int]

    def __post_init__(self):
        if self.frame not in FRAMES:
            raise ValueError(f"grid frame must be one of {FRAMES}, not {self.frame!r}")
        if not _SMALLEST_M <= self.voxel_size_m <= _FARTHEST_M:
            raise ValueError(
                f"voxel size must be positive, {_SMALLEST_M} to {_FARTHEST_M:g} m, not {self.voxel_size_m} m"
            )
        if len(self.shape) != 3 or min(self.shape) < 1 or max(self.shape) > _MOST_VOXELS:
            raise ValueError(
                f"grid shape must be three positive counts (x, y, z), at most {_MOST_VOXELS} each, not {self.shape}"
            )
        if len(self.lower_m) != 3:
            raise ValueError(f"grid lower corner must be (x, y, z) in metres, not {self.lower_m}")
        if not all(-_FARTHEST_M <= v <= _FARTHEST_M for v in self.lower_m):
            raise ValueError(f"grid lower corner must lie within {_FARTHEST_M:g} m, not {self.lower_m}")
        # Plain numbers, whatever was given: grids are compared, hashed and written as JSON.
        object.__setattr__(self, "lower_m", tuple(float(v) for v in self.lower_m))
        object.__setattr__(self, "voxel_size_m", float(self.voxel_size_m))
        object.__setattr__(self, "shape", tuple(int(v) for v in self.shape))

    def __str__(self) -> str:
        upper = ", ".join(f"{v:g}" for v in self.upper_m)
        lower = ", ".join(f"{v:g}" for v in self.lower_m)
        shape = "×".join(str(v) for v in self.shape)
        return f"{self.frame} frame, ({lower}) to ({upper}) m, {shape} voxels of {self.voxel_size_m:g} m"

    def to_dict(self) -> dict:
        """Fields as JSON gives them back, with lists for tuples; for manifests and files that name their grid."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict) -> "VoxelGrid":
        """The grid that `to_dict` wrote.

        Raises:
          KeyError, TypeError or ValueError: fields are absent or no grid.
        """
        return cls(fields["frame"], tuple(fields["lower_m"]), fields["voxel_size_m"], tuple(fields["shape"]))

    @property
    def upper_m(self) -> tuple[float, float, float]:
        """Upper corner (x, y, z) of the last voxel, metres."""
        x, y, z = (lo + n * self.voxel_size_m for lo, n in zip(self.lower_m, self.shape, strict=True))
        return x, y, z

    @property
    def num_voxels(self) -> int:
        """X · Y · Z."""
        return math.prod(self.shape)

    def indices_from_points(self, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Voxel index of each point and whether it lies inside.

        Args:
          points_m: [..., 3] metres in the grid's frame.

        Returns:
          int64 indices [..., 3] (floor; meaningless outside) and bool [...].
        """
        index = np.floor((np.asarray(points_m) - self.lower_m) / self.voxel_size_m).astype(np.int64)
        return index, np.all((index >= 0) & (index < self.shape), axis=-1)

    def centers_m(self) -> np.ndarray:
        """Voxel centres [X, Y, Z, 3] in metres, float32, in the grid's frame."""
        axes = [lo + (np.arange(n) + 0.5) * self.voxel_size_m for lo, n in zip(self.lower_m, self.shape, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)

    def require_same(self, other: "VoxelGrid", what: str, remedy: str) -> None:
        """Raises GridMismatchError naming both grids unless `other` is this grid."""
        if self != other:
            raise GridMismatchError(f"{what}: expected {self}, found {other}; {remedy}")

    def crop_slices(self, inner: "VoxelGrid") -> tuple[slice, slice, slice]:
        """Slices that cut `inner` out of an array on this grid.

        Raises:
          GridMismatchError: `inner` differs in frame or voxel size, is not aligned, or reaches outside.
        """
        # Nothing is resampled in silence: half a voxel of shift would pass for a bad model.
        if not self.contains(inner):
            raise GridMismatchError(
                f"({inner}) is no aligned crop of ({self}): a crop keeps frame and voxel size and starts on a voxel "
                "border; choose the grid that the files were written in, or resample them to the grid you want"
            )
        start = np.round(self._offset(inner)).astype(int)
        x, y, z = (slice(int(s), int(s + n)) for s, n in zip(start, inner.shape, strict=True))
        return x, y, z

    def contains(self, inner: "VoxelGrid") -> bool:
        """Whether `inner` is an aligned crop: of the same frame and voxel size, voxel on voxel, and inside."""
        offset = self._offset(inner)
        start = np.round(offset)
        # Corners are sums of decimal fractions, and off by rounding.
        aligned = np.allclose(offset, start, atol=1e-4)
        inside = np.all(start >= 0) and np.all(start + inner.shape <= np.array(self.shape))
        same_cells = inner.frame == self.frame and np.isclose(inner.voxel_size_m, self.voxel_size_m)
        return bool(same_cells and aligned and inside)

    def _offset(self, inner: "VoxelGrid") -> Float[np.ndarray, "3"]:
        """Lower corner of `inner` in voxels of this grid."""
        return (np.array(inner.lower_m) - self.lower_m) / self.voxel_size_m


# As published; the two differ in frame, extent and voxel size.
SURROUNDOCC_GRID = VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, (200, 200, 16))
OCC3D_GRID = VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.4, (200, 200, 16))


def resample_labels(
    labels: np.ndarray, src: VoxelGrid, dst: VoxelGrid, src_from_dst: np.ndarray, *, outside: int
) -> np.ndarray:
    """Labels of `src` at the voxel centres of `dst`, by nearest voxel.

    Args:
      labels: integer [X, Y, Z] on `src`.
      src: grid that `labels` lie on.
      dst: grid to sample at.
      src_from_dst: [4, 4] rigid or affine transform of points, dst frame to src frame, metres.
      outside: value for voxels of `dst` whose centre lies outside `src`.

    Returns:
      [X', Y', Z'] on `dst`, dtype of `labels`.
    """
    # float32 suffices: a grid is 100 m wide and a voxel 0.4 m.
    points = dst.centers_m() @ src_from_dst[:3, :3].T.astype(np.float32) + src_from_dst[:3, 3].astype(np.float32)
    index, inside = src.indices_from_points(points)
    index = np.clip(index, 0, np.array(src.shape) - 1)
    return np.where(inside, labels[index[..., 0], index[..., 1], index[..., 2]], labels.dtype.type(outside))
