"""Optics of a camera: intrinsics that can be, and lenses whose distortion is undone."""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from occjax.errors import UserError

_PINHOLE = ("none", "")
_FISHEYE = ("equidistant", "fisheye")
_POLYNOMIAL = ("plumb_bob", "rational_polynomial")
# Focal length by the image's side: fields of 157° to 3°. And of one axis by the other's: pixels that are no squares.
_FOCAL, _ASPECT = (0.1, 20.0), 2.0
# Of an undistorted image: less of it is no picture of anything.
_LEAST_SEEN = 0.05


class CalibrationError(UserError):
    """A calibration that no camera of a vehicle can have, or that does not belong to the images or to the grid."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lens:
    """Distortion of a lens, by OpenCV's models, and the pinhole camera that its images are brought to.

    Attributes:
      is_fisheye: OpenCV's fisheye model (ROS: equidistant) in the place of its polynomial one (ROS: plumb_bob,
        rational_polynomial).
      distorted_from_cam: float64 [3, 3] intrinsics of the images as recorded.
      coefficients: float64 [n]: four of a fisheye; k1 k2 p1 p2 k3 ... otherwise.
      pixel_from_cam: float64 [3, 3] intrinsics after undistorting.
      size: width and height of both images, pixels.
    """

    is_fisheye: bool
    distorted_from_cam: np.ndarray
    coefficients: np.ndarray
    pixel_from_cam: np.ndarray
    size: tuple[int, int]

    @functools.cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        make = cv2.fisheye.initUndistortRectifyMap if self.is_fisheye else cv2.initUndistortRectifyMap
        matrices = (self.distorted_from_cam, self.coefficients, np.eye(3), self.pixel_from_cam)
        return make(*matrices, self.size, cv2.CV_16SC2)

    def undistort(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image as the pinhole camera would have taken it; black where the lens saw nothing."""
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    @functools.cached_property
    def sees(self) -> Bool[np.ndarray, "h w"]:
        """Pixels of the undistorted image that the lens saw."""
        white = np.full((*self.size[::-1], 3), 255, np.uint8)
        return self.undistort(white)[..., 0] > 127


def require_intrinsics(name: str, pixel_from_cam: Float[np.ndarray, "3 3"]) -> None:
    """Raises CalibrationError unless the matrix is one of intrinsics, without skew."""
    k = pixel_from_cam
    rule = "intrinsics are [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels"
    if np.any(np.abs(k[2, :2]) > 1e-6) and not k[:2, 2].any():
        raise CalibrationError(f"pixel_from_cam of {name} is transposed: {rule}; found {k.tolist()}; transpose it")
    if np.abs(k[2] - [0, 0, 1]).max() > 1e-6 or k[0, 0] <= 0 or k[1, 1] <= 0 or abs(k[1, 0]) > 1e-6:
        raise CalibrationError(f"pixel_from_cam of {name}: {rule}; found {k.tolist()}; correct it")
    if abs(k[0, 1]) > 0.01 * k[0, 0]:
        raise CalibrationError(f"pixel_from_cam of {name} has a skew of {k[0, 1]:g}; {rule}; rectify its images")


def require_size(name: str, pixel_from_cam: Float[np.ndarray, "3 3"], size) -> None:
    """Raises CalibrationError where the intrinsics cannot be of an image of this width and height."""
    cx, cy = pixel_from_cam[:2, 2]
    # A centre so far off is a calibration of another size (0.25: of half of it) far sooner than a lens so oblique.
    if not (0.28 <= cx / size[0] <= 0.72 and 0.28 <= cy / size[1] <= 0.72):
        raise CalibrationError(
            f"intrinsics of {name} have their centre at ({cx:g}, {cy:g}), which is not near the middle of an image of "
            f"{size[0]}×{size[1]}: they are of another size; scale fx, cx by the width and fy, cy by the height"
        )
    require_field(name, pixel_from_cam, size)


def require_field(name: str, pixel_from_cam: Float[np.ndarray, "3 3"], size) -> None:
    """Raises CalibrationError where no camera has such a field of view in an image of this width and height."""
    fx, fy = pixel_from_cam[0, 0], pixel_from_cam[1, 1]
    low, high = _FOCAL
    if not (low <= fx / size[0] <= high and low <= fy / size[1] <= high and 1 / _ASPECT <= fx / fy <= _ASPECT):
        raise CalibrationError(
            f"the focal lengths of {name}, {fx:.4g} and {fy:.4g} pixels, are of no camera with an image of "
            f"{size[0]}×{size[1]}: each is {low:g} to {high:g} times its side, and neither more than {_ASPECT:g} times "
            "the other; correct the intrinsics, or scale them to the image's size"
        )


def optics(
    name: str,
    matrix: Float[np.ndarray, "3 3"],
    model: str,
    coefficients: Float[np.ndarray, "n"],
    projection: Float[np.ndarray, "3 3"] | None,
    size: tuple[int, int],
) -> tuple[np.ndarray, Lens | None]:
    """Intrinsics [3, 3] of the image without distortion, and the lens that brings it there; None for a pinhole.

    Args:
      name: of the camera.
      matrix: intrinsics of the recorded image.
      model: of its distortion, as ROS calls it.
      coefficients: of the model.
      projection: intrinsics of the pinhole to undistort to; None = OpenCV chooses one that the image fills.
      size: (width, height) of the image, pixels.

    Raises:
      CalibrationError: no camera has such optics.
    """
    require_intrinsics(name, matrix)
    if not coefficients.any() and model in (*_POLYNOMIAL, *_PINHOLE):
        return matrix, None
    known = ", ".join((*_POLYNOMIAL, *_FISHEYE))
    if model in _PINHOLE:
        raise CalibrationError(
            f"{name} has distortion coefficients, but no distortion_model; it must be one of {known}, or leave the "
            "coefficients out"
        )
    if model not in (*_FISHEYE, *_POLYNOMIAL):
        raise CalibrationError(f"distortion_model of {name} must be one of {known}, none, not {model!r}")
    is_fisheye = model in _FISHEYE
    if is_fisheye and coefficients.size != 4:
        raise CalibrationError(f"a fisheye has four coefficients, k1 to k4; {name} has {coefficients.size}")
    require_field(name, matrix, size)
    pinhole = _chosen(matrix, coefficients, size, is_fisheye) if projection is None else projection
    remedy = "check the model and its coefficients, and give projection_matrix, the pinhole to undistort to"
    try:
        require_intrinsics(name, pinhole)
        require_size(name, pinhole, size)
    except CalibrationError as error:
        whose = "that OpenCV chooses for it" if projection is None else "of projection_matrix"
        raise CalibrationError(f"the lens of {name} and the pinhole {whose} do not fit: {error}; {remedy}") from error
    lens = Lens(is_fisheye, matrix, coefficients, pinhole, size)
    if lens.sees.mean() < _LEAST_SEEN:
        raise CalibrationError(f"undistorted, {100 * lens.sees.mean():.1f} % of the image of {name} are left; {remedy}")
    return pinhole, lens


def _chosen(matrix: np.ndarray, coefficients: np.ndarray, size: tuple[int, int], is_fisheye: bool) -> np.ndarray:
    """The pinhole that OpenCV takes for the image."""
    if is_fisheye:
        choose = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify
        return choose(matrix, coefficients, size, np.eye(3), balance=0.0)
    return cv2.getOptimalNewCameraMatrix(matrix, coefficients, size, 0.0)[0]
