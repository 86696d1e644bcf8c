"""Intrinsics of another resolution are told from lenses that stand off the middle and from crops."""

import dataclasses

import numpy as np
import pytest
from nuscenes_root import write_root

from occjax.config import DataConfig
from occjax.data.index import load_index
from occjax.data.rig_checks import require_rig, rig_problems
from occjax.errors import DataError

# Of real cars, at 1600×900.
FRONT = (1266.4, 1266.4, 816.3, 491.5)
EVERY = slice(None)
BACK = (809.2, 809.2, 829.2, 481.8)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("rig") / "root", scenes={"scene-0061": 3})
    return load_index(DataConfig(root=str(root))).split("train")


def of(split, intrinsics, size, rows=EVERY):
    fx, fy, cx, cy = intrinsics
    matrices, sizes = split.pixel_from_cam.copy(), split.camera_size.copy()
    matrices[rows, 0], sizes[rows, 0] = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], size
    changed = dataclasses.replace(split, pixel_from_cam=matrices, camera_size=sizes)
    return rig_problems(changed, ("CAM_FRONT", "CAM_FRONT_RIGHT"))


@pytest.mark.parametrize("intrinsics", [FRONT, BACK])
@pytest.mark.parametrize("size", [(320, 180), (800, 450), (1280, 720), (2000, 1125), (3200, 1800)])
def test_a_calibration_of_another_resolution_is_named_with_the_factor_that_fits(split, intrinsics, size):
    (problem,) = of(split, intrinsics, size)
    assert problem.startswith(f"CAM_FRONT: fx {intrinsics[0]:g}") and f"images of {size[0]}×{size[1]}" in problem
    factor = float(problem.split("rows 1 and 2 times ")[1].split()[0])
    assert factor == pytest.approx(size[0] / 1600, rel=0.08)
    assert "3 keyframes of split train, first" in problem


@pytest.mark.parametrize(
    "intrinsics, size",
    [
        (FRONT, (1600, 900)),
        (BACK, (1600, 900)),
        # Squeezed to another aspect ratio; the upper 40 % cut off; the left half cut off; a wide and a long lens.
        ((506.6, 675.4, 326.5, 262.1), (640, 480)),
        ((1266.4, 1266.4, 816.3, 131.5), (1600, 540)),
        ((1266.4, 1266.4, 16.3, 491.5), (800, 900)),
        ((300.0, 300.0, 800.0, 450.0), (1600, 900)),
        ((9000.0, 9000.0, 800.0, 450.0), (1600, 900)),
    ],
)
def test_what_may_be_is_accepted(split, intrinsics, size):
    assert of(split, intrinsics, size) == []


def test_what_cannot_be_is_refused(split):
    (problem,) = of(split, (1266.0, 1266.0, 1700.0, 450.0), (1600, 900), rows=slice(1, 2))
    assert "must lie inside the image; 1 keyframes" in problem
    (problem,) = of(split, (100.0, 100.0, 800.0, 450.0), (1600, 900))
    assert "focal lengths must be" in problem
    (problem,) = of(split, (1266.0, 1266.0, -5.0, 450.0), (1600, 900))
    assert "must lie inside" in problem
    split = dataclasses.replace(
        split, pixel_from_cam=split.pixel_from_cam * np.array([[5.0], [5.0], [1.0]], np.float32)
    )
    with pytest.raises(DataError, match=r"(?s)CAM_FRONT: .*480×320 or so; .*times 0.2 .*CAM_FRONT_RIGHT: "):
        require_rig(split, ("CAM_FRONT", "CAM_FRONT_RIGHT"))
