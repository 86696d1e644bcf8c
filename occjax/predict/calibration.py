"""Calibration file of a rig: YAML, each camera in the spelling of ROS `camera_info` with its pose on the vehicle.

    frame: ego           # of the poses: lidar (x right, y forward) or ego (x forward, y left; ROS base_link)
    ego_from_lidar: {translation: [0.94, 0, 1.84], rotation_wxyz: [0.7071, 0, 0, -0.7071]}  # where one needs the other
    axes: optical        # of the cameras: optical (x right, y down, z forward) or link (x forward, y left, z up)
    cameras:
      CAM_FRONT:
        image_width: 1600
        image_height: 900
        camera_matrix: {rows: 3, cols: 3, data: [1266, 0, 816, 0, 1266, 491, 0, 0, 1]}    # or K: [...]
        distortion_model: plumb_bob       # or rational_polynomial, equidistant (fisheye), none
        distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0, 0, 0]}           # or D: [...]
        grid_from_cam:                    # the camera's pose in `frame`; or cam_from_grid, its inverse
          translation: [1.70, 0.02, 1.51] # metres
          rotation_wxyz: [0.5, -0.5, 0.5, -0.5]    # or rotation_xyzw, or rotation: {w: , x: , y: , z: }
      CAM_LEFT:
        ...
        grid_from_cam: {matrix: [[...], [...], [...], [0, 0, 0, 1]]}

`projection_matrix` (or P), where it is given, says what pinhole the undistorted image is of; else OpenCV chooses the
largest that the image fills.
"""

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from occjax.geometry import invert_rigid, transform_from_pose
from occjax.predict.lens import CalibrationError, Lens, optics
from occjax.predict.rig import Rig, levelness, require_rigid

_FRAMES = {"lidar": "lidar", "ego": "ego", "base_link": "ego"}
# Columns: the axes of an optical frame in one that looks along x with z up (ROS, REP 103).
_LINK_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_AXES = {"optical": np.eye(4), "link": _LINK_FROM_OPTICAL}
# Spelling of the calibration files, and that of the message.
_MATRICES = {
    "camera_matrix": ("K", "k"),
    "distortion_coefficients": ("D", "d"),
    "projection_matrix": ("P", "p"),
    "rectification_matrix": ("R", "r"),
}
_POSES = ("grid_from_cam", "cam_from_grid")
_CAMERA_KEYS = {"image_width", "image_height", "width", "height", "distortion_model", "camera_name", "axes", *_POSES}
_CAMERA_KEYS |= {key for name, short in _MATRICES.items() for key in (name, *short)}
# A rig of twelve cameras has some four hundred.
_MOST_VALUES, _LARGEST_IMAGE = 100_000, 65_535
# Cosines of the tilt. Cameras that look down by up to 37° are mounted; beyond that, and level in another reading of the
# file, they are misread.
_LEVEL, _TILTED = 0.97, 0.8


def read_calibration(path: str | Path) -> Rig:
    """The rig that a file describes.

    Raises:
      CalibrationError: it is no such file, or no rig of a vehicle: a matrix that is transposed, a quaternion in another
        order than it says, axes of another frame.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except CalibrationError as error:
        raise CalibrationError(f"calibration {path}: {error}") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"calibration {path} is no text in UTF-8; write it as such, YAML") from error
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}; check the path") from error
    # What YAML takes for a date or a number need be none.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise CalibrationError(f"{path} is no YAML: {error}") from error
    _require_small(path, content)
    try:
        return _rig(content)
    except CalibrationError as error:
        raise CalibrationError(f"calibration {path}: {error}") from error


class _Loader(yaml.SafeLoader):
    """As the safe one, but two entries of one name are an error, where YAML's readers take the last."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for (key, _), name in zip(node.value, names, strict=False):
            if names.count(name) > 1:
                raise CalibrationError(f"{name!r} stands twice, once in line {key.start_mark.line + 1}; keep one")
        return super().construct_mapping(node, deep)


def _require_small(path: Path, content: Any) -> None:
    """Raises CalibrationError where a file of names that stand for each other says more than any rig has to say.

    Nine lines of nine references are a billion values, and one that holds itself has no end.
    """
    left = [content]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        value = left.pop()
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
        if len(left) > _MOST_VALUES:
            break
    raise CalibrationError(f"calibration {path}: it holds more than {_MOST_VALUES} values; give the cameras alone")


def _rig(content: Any) -> Rig:
    content = _mapping(content, "the file", {"frame", "ego_from_lidar", "axes", "cameras"}, ("frame", "cameras"))
    frame = _choice("frame", content["frame"], _FRAMES)
    axes = content.get("axes", "optical")
    cameras = _mapping(content["cameras"], "cameras", None, ())
    matrices, poses, sizes, lenses = [], [], [], []
    readings: dict[str, list[np.ndarray]] = {}
    for name, camera in cameras.items():
        if name in (None, ""):
            raise CalibrationError("a camera has no name; write it before the colon")
        camera = _mapping(camera, str(name), _CAMERA_KEYS, ())
        size = (_size(name, camera, "width"), _size(name, camera, "height"))
        pixel_from_cam, lens = _optics(name, camera, size)
        cam_from_axes = _choice(f"axes of {name}", camera.get("axes", axes), _AXES)
        pose, others = _pose(name, camera)
        matrices.append(pixel_from_cam)
        poses.append(pose @ cam_from_axes)
        sizes.append(size)
        lenses.append(lens)
        for reading, other in others.items():
            readings.setdefault(reading, []).append(other @ cam_from_axes)
        for reading, other in _AXES.items():
            if other is not cam_from_axes:
                readings.setdefault(f"with `axes: {reading}`", []).append(pose @ other)
    _require_this_reading(np.array(poses), {reading: np.array(found) for reading, found in readings.items()})
    cam_from_grid = invert_rigid(np.array(poses).reshape(-1, 4, 4))
    names = tuple(str(name) for name in cameras)
    lidar = content.get("ego_from_lidar")
    ego_from_lidar = None if lidar is None else _matrix("ego_from_lidar", lidar)[0]
    return Rig(names, np.array(matrices), cam_from_grid, np.array(sizes), frame, tuple(lenses), ego_from_lidar)


def _require_this_reading(poses: np.ndarray, readings: dict[str, np.ndarray]) -> None:
    """Raises CalibrationError where cameras lie on their side, but would stand level in another reading of the file."""
    if not len(poses):
        return
    found = levelness(poses).min()
    for reading, others in readings.items():
        level = levelness(others).min()
        if len(others) == len(poses) and level >= _LEVEL and found < _TILTED:
            tilt, other_tilt = (np.degrees(np.arccos(np.clip(value, -1, 1))) for value in (found, level))
            raise CalibrationError(
                f"as they are written, cameras are tilted by up to {tilt:.0f}°; read {reading} they stand level within "
                f"{other_tilt:.0f}°: say so in the file, or give the pose as a matrix if they are mounted like that"
            )


def _optics(name: str, camera: dict, size: tuple[int, int]) -> tuple[np.ndarray, Lens | None]:
    """Intrinsics of the image without distortion, and the lens that brings it there."""
    raw = _numbers(name, camera, "camera_matrix", (9,))
    if raw is None:
        raise CalibrationError(f"{name} lacks its intrinsics; give camera_matrix: {{data: [nine numbers]}} or K: [...]")
    matrix = raw.reshape(3, 3)
    rectification = _numbers(name, camera, "rectification_matrix", (9,))
    if rectification is not None and np.abs(rectification.reshape(3, 3) - np.eye(3)).max() > 1e-6:
        raise CalibrationError(
            f"rectification_matrix of {name} turns its images (stereo); give the pose of the camera as it is and leave "
            "the matrix out"
        )
    model = str(camera.get("distortion_model", "") or "").lower()
    coefficients = _numbers(name, camera, "distortion_coefficients", (4, 5, 8, 12, 14, 0))
    coefficients = np.zeros(0) if coefficients is None else coefficients
    projection = _numbers(name, camera, "projection_matrix", (12,))
    # Of a camera that nobody has rectified, ROS leaves it 0.
    pinhole = projection.reshape(3, 4)[:, :3] if projection is not None and projection.any() else None
    return optics(name, matrix, model, coefficients, pinhole, size)


def _pose(name: str, camera: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """grid_from_cam [4, 4] of whatever axes the camera has, and what the same numbers are in other readings."""
    given = [key for key in _POSES if key in camera]
    if len(given) != 1:
        raise CalibrationError(f"{name} wants its pose once, as grid_from_cam or as cam_from_grid; found {given}")
    key, other_key = given[0], _POSES[1 - _POSES.index(given[0])]
    matrix, readings = _matrix(f"{key} of {name}", camera[key])
    readings[f"as {other_key}"] = invert_rigid(matrix)
    grid_from: Callable[[np.ndarray], np.ndarray] = invert_rigid if key == "cam_from_grid" else lambda pose: pose
    return grid_from(matrix), {reading: grid_from(other) for reading, other in readings.items()}


def _matrix(what: str, value: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A pose [4, 4], and what the same numbers are in other readings."""
    pose = _mapping(value, what, {"matrix", "translation", "rotation", "rotation_wxyz", "rotation_xyzw"}, ())
    if "matrix" in pose and len(pose) > 1:
        raise CalibrationError(f"{what} is given twice, as a matrix and by {', '.join({*pose} - {'matrix'})}; keep one")
    if "matrix" not in pose:
        return _pose_of_quaternion(what, pose)
    matrix = _vector(f"matrix of {what}", pose["matrix"], (16,)).reshape(4, 4)
    require_rigid(what, matrix)
    return matrix, {}


def _pose_of_quaternion(what: str, pose: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    given = [key for key in ("rotation", "rotation_wxyz", "rotation_xyzw") if key in pose]
    if len(given) != 1 or "translation" not in pose:
        raise CalibrationError(
            f"{what} is either {{matrix: 4x4}} or {{translation: [x, y, z], rotation_wxyz: [w, x, y, z]}} (or "
            f"rotation_xyzw); found {', '.join(pose) or 'nothing'}"
        )
    translation, quaternion = pose["translation"], pose[given[0]]
    if isinstance(translation, dict):
        translation = _named(f"translation of {what}", translation, "xyz")
    translation = _vector(f"translation of {what}", translation, (3,))
    if given[0] == "rotation":
        if not isinstance(quaternion, dict):
            raise CalibrationError(
                f"rotation of {what} does not say the order of its numbers; call it rotation_wxyz or rotation_xyzw"
            )
        quaternion = _named(f"rotation of {what}", quaternion, "wxyz")
    quaternion = _vector(f"{given[0]} of {what}", quaternion, (4,))
    norm = np.linalg.norm(quaternion)
    if abs(norm - 1) > 1e-2:
        raise CalibrationError(f"{given[0]} of {what} has length {norm:.3g}; a rotation has a quaternion of length 1")
    by_order = {"wxyz": quaternion, "xyzw": np.roll(quaternion, 1)}
    order = "xyzw" if given[0] == "rotation_xyzw" else "wxyz"
    other = "wxyz" if order == "xyzw" else "xyzw"
    matrices = {name: transform_from_pose(values, translation) for name, values in by_order.items()}
    # Named one by one, its numbers are in no order that could be another.
    return matrices[order], {} if given[0] == "rotation" else {f"as rotation_{other}": matrices[other]}


def _mapping(value: Any, what: str, known: set[str] | None, needed: tuple[str, ...]) -> dict:
    if not isinstance(value, dict):
        raise CalibrationError(f"{what} must be a mapping of names to values, not {reprlib.repr(value)}")
    unknown = [str(key) for key in value if known is not None and key not in known]
    if unknown and known is not None:
        raise CalibrationError(f"{what} has unknown entries {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    missing = [key for key in needed if key not in value]
    if missing:
        raise CalibrationError(f"{what} lacks {', '.join(missing)}; `python -m pydoc {__name__}` shows an example")
    return value


def _choice(what: str, value: Any, choices: dict[str, Any]) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise CalibrationError(f"{what} must be one of {', '.join(choices)}, not {reprlib.repr(value)}")
    return choices[value]


def _size(name: str, camera: dict, side: str) -> int:
    if side in camera and f"image_{side}" in camera:
        raise CalibrationError(f"{name} has both {side} and image_{side}; keep one")
    value = camera.get(f"image_{side}", camera.get(side))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LARGEST_IMAGE:
        raise CalibrationError(
            f"{name} lacks image_{side}, the pixels that its intrinsics are of; found {reprlib.repr(value)}"
        )
    return value


def _numbers(name: str, camera: dict, key: str, counts: tuple[int, ...]) -> np.ndarray | None:
    """The numbers of a matrix in either spelling, or None where it is absent."""
    given = [spelling for spelling in (key, *_MATRICES[key]) if camera.get(spelling) is not None]
    if len(given) > 1:
        raise CalibrationError(f"{name} has both {' and '.join(given)}; keep one")
    if not given:
        return None
    value = camera[given[0]]
    if isinstance(value, dict):
        if "data" not in value:
            raise CalibrationError(f"{given[0]} of {name} lacks its `data`")
        value = value["data"]
    return _vector(f"{given[0]} of {name}", value, counts)


def _vector(what: str, value: Any, counts: tuple[int, ...]) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise CalibrationError(f"{what} must be a list of numbers: {error}") from error
    if numbers.size not in counts or not np.isfinite(numbers).all():
        wanted = " or ".join(map(str, sorted(counts)))
        raise CalibrationError(f"{what} must be {wanted} finite numbers; found {numbers.size}: {reprlib.repr(value)}")
    return numbers


def _named(what: str, value: dict, names: str) -> list:
    if set(value) != set(names):
        raise CalibrationError(f"{what} must name {', '.join(names)}; found {', '.join(map(str, value))}")
    return [value[name] for name in names]
