"""Calibration held against the images that it belongs to: intrinsics of another resolution, or of no lens."""

import math

import numpy as np

from occjax.data.index import SplitIndex
from occjax.errors import DataError

# Lenses stand off the middle by a few per cent, images may be cropped on one axis; a calibration of another resolution
# is off by one factor on both.
_LARGEST_FACTOR, _AGREEMENT = 1.12, 1.25
# Focal length over width: half of 146 degrees, and 7 degrees.
_FOCAL_RANGE = (0.15, 8.0)


def rig_problems(split: SplitIndex, cameras: tuple[str, ...]) -> list[str]:
    """What is wrong with the intrinsics of a split's cameras, each with camera, values, size and what would fit.

    Raises:
      DataError: the tables lack a camera; see `SplitIndex.camera_columns`.
    """
    found = []
    for camera, column in zip(cameras, split.camera_columns(cameras), strict=True):
        rows = np.flatnonzero(split.camera_file[:, column])
        values = np.concatenate(
            [split.pixel_from_cam[rows, column].reshape(-1, 9), split.camera_size[rows, column]], axis=1
        )
        # A car has one calibration, a data set as many as it has days.
        kinds, first, counts = np.unique(values, axis=0, return_index=True, return_counts=True)
        for kind, row, count in zip(kinds, rows[first], counts, strict=True):
            if reason := _reason(*(float(kind[i]) for i in (0, 4, 2, 5, 9, 10))):
                found.append(
                    f"{camera}: {reason}; {count} keyframes of split {split.name}, first {split.tokens[row]}; mend "
                    "camera_intrinsic in calibrated_sensor.json, or width and height in sample_data.json"
                )
    return found


def require_rig(split: SplitIndex, cameras: tuple[str, ...]) -> None:
    """Raises DataError with all of `rig_problems`, if there are any."""
    if found := rig_problems(split, cameras):
        raise DataError("intrinsics do not belong to the images:\n" + "\n".join(f"  {problem}" for problem in found))


def _reason(fx: float, fy: float, cx: float, cy: float, width: float, height: float) -> str:
    what = f"fx {fx:g}, fy {fy:g} and principal point {cx:g}, {cy:g} do not belong to images of {width:g}×{height:g}"
    factors = [size / 2 / centre if centre > 0 else math.nan for size, centre in ((width, cx), (height, cy))]
    factor = math.sqrt(factors[0] * factors[1]) if min(factors) > 0 else math.nan
    is_one_factor = max(factors) < _AGREEMENT * min(factors)
    if is_one_factor and not 1 / _LARGEST_FACTOR < factor < _LARGEST_FACTOR:
        return (
            f"{what}: they are those of {width / factor:.0f}×{height / factor:.0f} or so; rows 1 and 2 times "
            f"{factor:.3g} would fit"
        )
    if not (0 < cx < width and 0 < cy < height):
        return f"{what}: the principal point must lie inside the image"
    if not all(_FOCAL_RANGE[0] < focal / width < _FOCAL_RANGE[1] for focal in (fx, fy)):
        return f"{what}: focal lengths must be {_FOCAL_RANGE[0]} to {_FOCAL_RANGE[1]} times the width"
    return ""
