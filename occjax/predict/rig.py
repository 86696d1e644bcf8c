"""Rig of a vehicle's cameras as people have it: checked, one frame at a time, images of any size."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from occjax.data.augment import plain_resize
from occjax.geometry import invert_rigid
from occjax.grid import FRAMES
from occjax.predict.lens import CalibrationError, Lens, require_intrinsics, require_size
from occjax.types import CameraRig

MAX_CAMERAS = 12
# As a calibration file has it.
NUSCENES_LIDAR = "{translation: [0.94, 0.0, 1.84], rotation_wxyz: [0.7071, 0.0, 0.0, -0.7071]}"
_FRAMES_IN_WORDS = {
    "lidar": "x right, y forward, 1.84 m above the ground",
    "ego": "x forward, y left, on the ground",
}
# Cosine between the image's downward direction and the ground's: below that, no camera of a vehicle is mounted so.
_UPRIGHT = 0.25
_LIDAR_AXES = 0.8
_LARGEST_OFFSET_M = 30.0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Rig:
    """1 to 12 cameras of a vehicle: `Rig.from_arrays` makes one, `occjax.read_calibration` reads one.

    Camera axes are x right, y down, z forward (OpenCV, ROS optical frames).

    Attributes:
      cameras: their names.
      pixel_from_cam: float32 [N, 3, 3] intrinsics of the recorded images, undistorted where there is a lens.
      cam_from_grid: float32 [N, 4, 4] rigid, from `frame` at the frame's time to the camera at its own; metres.
      sizes: int32 [N, 2] width and height of the recorded images, or None: of any size that the intrinsics can be of.
      frame: "lidar" (x right, y forward, z up) or "ego" (x forward, y left, z up); None = the network's, whichever.
      lenses: of each camera, or None where it is a pinhole.
      ego_from_lidar: float64 [4, 4] pose of the LiDAR on the vehicle, which `in_frame` needs, or None.
    """

    cameras: tuple[str, ...]
    pixel_from_cam: np.ndarray
    cam_from_grid: np.ndarray
    sizes: np.ndarray | None = None
    frame: str | None = None
    lenses: tuple[Lens | None, ...] = ()
    ego_from_lidar: np.ndarray | None = None

    def __post_init__(self):
        names = self.cameras
        if not 1 <= len(names) <= MAX_CAMERAS or len(set(names)) < len(names):
            raise CalibrationError(
                f"a rig has 1 to {MAX_CAMERAS} cameras, each of its own name; not {', '.join(names) or 'none'}"
            )
        if self.frame not in (None, *FRAMES):
            raise CalibrationError(f"the frame of a rig must be one of {', '.join(FRAMES)}, not {self.frame!r}")
        set_field = functools.partial(object.__setattr__, self)
        set_field("pixel_from_cam", _array("pixel_from_cam", self.pixel_from_cam, (len(names), 3, 3)))
        set_field("cam_from_grid", _array("cam_from_grid", self.cam_from_grid, (len(names), 4, 4)))
        set_field("lenses", tuple(self.lenses) or (None,) * len(names))
        if len(self.lenses) != len(names):
            raise CalibrationError(f"a rig of {len(names)} cameras has as many lenses, None for pinholes")
        if self.sizes is not None:
            set_field("sizes", _array("sizes", self.sizes, (len(names), 2)).astype(np.int32))
        if self.ego_from_lidar is not None:
            set_field("ego_from_lidar", _array("ego_from_lidar", self.ego_from_lidar, (4, 4), np.float64))
            _require_lidar(self.ego_from_lidar)
        for camera, name in enumerate(names):
            require_intrinsics(name, self.pixel_from_cam[camera])
            require_rigid(f"cam_from_grid of {name}", self.cam_from_grid[camera])
            if self.sizes is not None:
                require_size(name, self.pixel_from_cam[camera], self.sizes[camera])
        level = levelness(invert_rigid(self.cam_from_grid)).tolist()
        if min(level) < _UPRIGHT:
            name = names[level.index(min(level))]
            inverse = levelness(self.cam_from_grid).min() >= _UPRIGHT
            hint = "its inverse would be upright: is it grid_from_cam, or transposed?" if inverse else _AXES_HINT
            raise CalibrationError(
                f"{name} is not upright: the downward direction of its image points {_degrees(min(level))} away from "
                f"the ground; {hint}"
            )

    def __repr__(self) -> str:
        return f"<Rig of {', '.join(self.cameras)} in the {self.frame or 'grid'} frame>"

    @classmethod
    def from_arrays(
        cls,
        pixel_from_cam,
        *,
        cam_from_grid=None,
        grid_from_cam=None,
        cameras: Sequence[str] | None = None,
        sizes=None,
        frame: str | None,
        ego_from_lidar=None,
    ) -> "Rig":
        """The rig of plain matrices.

        Args:
          pixel_from_cam: [N, 3, 3] intrinsics of the images as recorded, without distortion.
          cam_from_grid, grid_from_cam: [N, 4, 4], one of the two; metres.
          cameras: names; by default camera_0, camera_1, ...
          sizes: [N, 2] width and height of the recorded images; None = whatever comes.
          frame: that `grid` stands for, "lidar" or "ego"; None = the network's, whichever that is.
          ego_from_lidar: [4, 4] pose of the LiDAR on the vehicle: see `in_frame`.

        Raises:
          CalibrationError: an array that no camera can have: transposed, not rigid, upside down.
        """
        if (cam_from_grid is None) == (grid_from_cam is None):
            raise CalibrationError("a rig wants either cam_from_grid or grid_from_cam, [N, 4, 4]; give one of them")
        count = len(np.asarray(pixel_from_cam))
        names = tuple(cameras) if cameras is not None else tuple(f"camera_{i}" for i in range(count))
        if grid_from_cam is not None:
            poses = _array("grid_from_cam", grid_from_cam, (len(names), 4, 4), np.float64)
            for name, pose in zip(names, poses, strict=True):
                require_rigid(f"grid_from_cam of {name}", pose)
            cam_from_grid = invert_rigid(poses)
        sizes = None if sizes is None else np.asarray(sizes)
        matrices = (np.asarray(pixel_from_cam), np.asarray(cam_from_grid))
        return cls(names, *matrices, sizes, frame, ego_from_lidar=ego_from_lidar)

    @classmethod
    def from_camera_rig(cls, rig: CameraRig, *, cameras: Sequence[str] | None = None) -> "Rig":
        """The cameras of the loader's container, one sample of it; how its images were drawn is not taken over.

        Raises:
          CalibrationError: it holds several samples, or an augmented one.
        """
        if np.ndim(rig.is_present) == 2:
            if len(rig.is_present) != 1:
                raise CalibrationError(f"one frame at a time: this CameraRig holds {len(rig.is_present)} samples")
            rig = CameraRig(*(None if part is None else np.asarray(part)[0] for part in rig))
        if rig.augmented_from_grid is not None and np.abs(rig.augmented_from_grid - np.eye(3)).max() > 1e-6:
            raise CalibrationError("this CameraRig is augmented in the BEV; predict from the rig as recorded")
        return cls.from_arrays(rig.pixel_from_cam, cam_from_grid=rig.cam_from_grid, cameras=cameras, frame=None)

    def in_frame(self, frame: str) -> "Rig":
        """This rig with its poses in another frame; one without a frame is in whichever is asked for.

        Raises:
          CalibrationError: they are in the other one, and `ego_from_lidar` is not known.
        """
        if self.frame in (None, frame):
            return self
        if self.ego_from_lidar is None:
            raise CalibrationError(
                f"the rig is in the {self.frame} frame, but this network's grid lies in the {frame} frame "
                f"({_FRAMES_IN_WORDS[frame]}): give the poses of the cameras in that frame, or say where the LiDAR is; "
                f"on nuScenes' vehicles, and good enough where there is none, it is ego_from_lidar: {NUSCENES_LIDAR}"
            )
        old_from_new = self.ego_from_lidar if frame == "lidar" else invert_rigid(self.ego_from_lidar)
        return dataclasses.replace(self, cam_from_grid=self.cam_from_grid @ old_from_new, frame=frame)

    def to_input(self, sizes: np.ndarray, is_present: np.ndarray, input_size: tuple[int, int]) -> CameraRig:
        """What the network is given, with a batch axis of 1.

        Args:
          sizes: int [N, 2] width and height of the recorded images.
          is_present: bool [N].
          input_size: (width, height) of the network's input.
        """
        resize = np.stack([plain_resize(size, input_size) for size in sizes]).astype(np.float32)
        parts = (self.pixel_from_cam, self.cam_from_grid, resize, np.eye(3, dtype=np.float32), is_present)
        return CameraRig(*(part[None] for part in parts))


_AXES_HINT = (
    "check the order of its quaternion, its axes (x right, y down, z forward) and the frame; an image that is stored "
    "turned has to be turned back, and its calibration with it"
)


def require_rigid(what: str, matrix: Float[np.ndarray, "4 4"]) -> None:
    """Raises CalibrationError unless the matrix is a rotation and a translation in metres."""
    last = np.array([0.0, 0, 0, 1])
    if np.abs(matrix[3] - last).max() > 1e-5:
        is_transposed = np.abs(matrix[:, 3] - last).max() <= 1e-5
        remedy = "it is transposed: transpose it" if is_transposed else "its last row must be 0 0 0 1"
        raise CalibrationError(f"{what} is no rigid transform [[R, t], [0, 1]]: found {matrix.tolist()}; {remedy}")
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise CalibrationError(
            f"{what} is no rigid transform: its 3x3 part must be a rotation (orthonormal, determinant 1), without "
            f"scale or mirroring; found {rotation.tolist()}"
        )
    distance = np.linalg.norm(matrix[:3, 3])
    if distance > _LARGEST_OFFSET_M:
        raise CalibrationError(
            f"{what} has a translation of {distance:.0f} m; a camera sits within {_LARGEST_OFFSET_M:.0f} m of the "
            "frame's origin on the vehicle: give metres, and a pose on the vehicle, not in the world"
        )


def _require_lidar(ego_from_lidar: Float[np.ndarray, "4 4"]) -> None:
    """Raises CalibrationError unless the axes are those of nuScenes' LiDAR, within what mounting explains."""
    require_rigid("ego_from_lidar", ego_from_lidar)
    ahead, up = ego_from_lidar[0, 1], ego_from_lidar[2, 2]
    if min(ahead, up) < _LIDAR_AXES:
        raise CalibrationError(
            f"ego_from_lidar is of another frame than nuScenes' LiDAR, whose x points right, y ahead and z up: its y "
            f"points {_degrees(ahead)} away from ahead, its z {_degrees(up)} from up; check the order of its "
            f"quaternion; on nuScenes' vehicles it is {NUSCENES_LIDAR}"
        )


def levelness(grid_from_cam: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n"]:
    """Cosine of the angle between the downward direction of each image and that of the grid."""
    return -grid_from_cam[..., 2, 1]


def _degrees(cosine: float) -> str:
    return f"{np.degrees(np.arccos(np.clip(cosine, -1, 1))):.0f}°"


def _array(name: str, values, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    try:
        array = np.array(values, dtype)  # a copy: what was checked stays as it is
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{name} must be numbers of shape {shape}: {error}") from error
    if array.shape != shape:
        raise CalibrationError(f"{name} must have shape {shape}; found {array.shape}")
    if not np.isfinite(array).all():
        raise CalibrationError(f"{name} holds numbers that are not finite; correct the calibration")
    return array
