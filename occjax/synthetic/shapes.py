"""Shapes, the solids that everything in the city is made of: tapered boxes and ellipsoids, each turned by a yaw."""

import dataclasses

import numpy as np

# Two kinds are enough for a street, and both have closed forms for rays (`raycast`) and for voxels (`voxelize`).
FRUSTUM, ELLIPSOID = 0, 1

# Corner i of a frustum: signs of x, y and z; edges join corners that differ in one sign.
CORNER_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
EDGES = np.array([(i, j) for i in range(8) for j in range(i) if np.sum(CORNER_SIGNS[i] != CORNER_SIGNS[j]) == 1])


@dataclasses.dataclass(frozen=True)
class Parts:
    """P solids as a structure of arrays; metres, city frame (z up, ground at 0).

    A frustum spans |z| <= half_m[2] about its centre and has a rectangular section that goes linearly from
    `half_m[:2]` at the bottom to `top_half_m` at the top; an ellipsoid has the semi-axes `half_m`.

    Attributes:
      kind: uint8 [P], FRUSTUM or ELLIPSOID.
      center_m: float64 [P, 3].
      yaw_rad: float64 [P].
      half_m: float64 [P, 3].
      top_half_m: float64 [P, 2].
      semantic: uint8 [P] occupancy class.
      material: uint8 [P] how the surface is painted.
      color: float32 [P, 3] RGB in 0..1.
      owner: int32 [P] index of the object that the part belongs to.
    """

    kind: np.ndarray
    center_m: np.ndarray
    yaw_rad: np.ndarray
    half_m: np.ndarray
    top_half_m: np.ndarray
    semantic: np.ndarray
    material: np.ndarray
    color: np.ndarray
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, index: np.ndarray) -> "Parts":
        """The parts at `index`: integers [n], or a bool mask [P]."""
        return Parts(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def turned(x, y, yaw_rad) -> np.ndarray:
    """[..., 2] what (x, y) becomes when turned counter-clockwise; all three [...], as far as they broadcast."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def heading_vector(heading_rad) -> np.ndarray:
    """[..., 2] unit vectors along headings [...]."""
    return np.stack([np.cos(heading_rad), np.sin(heading_rad)], axis=-1)


def pose_from_angles(position, yaw_rad: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> np.ndarray:
    """[4, 4] pose at `position` [3] of a frame that is rolled about x, then pitched about y, then turned about z."""
    (cy, cp, cr), (sy, sp, sr) = (f([yaw_rad, pitch_rad, roll_rad]) for f in (np.cos, np.sin))
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    lean = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    bank = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn @ lean @ bank, position
    return pose


def corners_m(parts: Parts) -> np.ndarray:
    """Corners [P, 8, 3] of a box around each part, city frame."""
    top = CORNER_SIGNS[:, 2] > 0
    half_xy = np.where(top[None, :, None], parts.top_half_m[:, None], parts.half_m[:, None, :2])
    x, y = np.moveaxis(half_xy * CORNER_SIGNS[None, :, :2], -1, 0)
    z = parts.half_m[:, 2:] * CORNER_SIGNS[None, :, 2]
    return np.concatenate([turned(x, y, parts.yaw_rad[:, None]), z[..., None]], axis=-1) + parts.center_m[:, None]


def face_planes(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals [P, 6, 3] and offsets [P, 6] of the faces +x -x +y -y +z -z, local frame of each part.

    A local point p lies inside a frustum where normal . p <= offset for all six; meaningless for ellipsoids.
    """
    # A face that leans by `slope` outwards per metre down has its normal lean by as much upwards.
    bottom, top, half_z = parts.half_m[:, :2], parts.top_half_m, parts.half_m[:, 2]
    slope = (bottom - top) / (2 * half_z[:, None])  # [P, 2]
    scale = 1 / np.sqrt(1 + slope**2)
    normals, offsets = np.zeros((len(parts), 6, 3)), np.zeros((len(parts), 6))
    for axis in (0, 1):
        for side, sign in enumerate((1, -1)):
            normals[:, 2 * axis + side, axis] = sign * scale[:, axis]
            normals[:, 2 * axis + side, 2] = slope[:, axis] * scale[:, axis]
            offsets[:, 2 * axis + side] = (bottom + top)[:, axis] / 2 * scale[:, axis]
    normals[:, 4, 2], normals[:, 5, 2] = 1, -1
    offsets[:, 4] = offsets[:, 5] = half_z
    return normals, offsets


def footprint_m(center_xy, half_xy, yaw_rad) -> np.ndarray:
    """Corners [4, 2] of a rectangle of half sizes [2] (or one for both) about [2], turned by `yaw_rad`, in order."""
    signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    x, y = (signs * half_xy).T
    return turned(x, y, yaw_rad) + center_xy
