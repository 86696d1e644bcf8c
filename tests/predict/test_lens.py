"""Lenses: what they bend is made straight, and optics that no camera has are told."""

import cv2
import numpy as np
import pytest
from calibration_files import read, written

from occjax.predict.rig import CalibrationError
from occjax.synthetic.rig import pixel_from_cam


@pytest.mark.parametrize("model", ["equidistant", "plumb_bob"])
def test_a_lens_is_undone(model, tmp_path):
    """A picture is bent as the lens would, pixel by pixel through OpenCV's projection, and comes back."""
    size = (320, 180)
    k = pixel_from_cam("CAM_FRONT", *size)
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (9, 16, 3)).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    coefficients = np.array(
        [-0.02, 0.01, -0.004, 0.001] if model == "equidistant" else [-0.2, 0.05, 0.001, -0.002, 0.01]
    )
    u, v = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    bent = np.stack([u, v], -1).reshape(-1, 1, 2)
    undo = cv2.fisheye.undistortPoints if model == "equidistant" else cv2.undistortPoints
    straight = undo(bent, k, coefficients, P=k).reshape(*size[::-1], 2).astype(np.float32)
    recorded = cv2.remap(picture, straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
    content = written(names=("CAM_FRONT",))
    entry = content["cameras"]["CAM_FRONT"]
    entry |= {
        "image_width": size[0],
        "image_height": size[1],
        "camera_matrix": {"data": k.ravel().tolist()},
        "distortion_model": model,
        "distortion_coefficients": {"data": coefficients.tolist()},
        "projection_matrix": {"data": np.column_stack([k, np.zeros(3)]).ravel().tolist()},
    }
    rig = read(content, tmp_path)
    np.testing.assert_allclose(rig.pixel_from_cam[0], k, rtol=1e-6)
    inner = (slice(20, -20), slice(30, -30))
    difference = np.abs(rig.lenses[0].undistort(recorded).astype(int) - picture)[inner]
    assert difference.mean() < 2 < 8 < np.abs(recorded.astype(int) - picture)[inner].mean()
    # Without a projection OpenCV chooses a pinhole that the image fills.
    del entry["projection_matrix"]
    rig = read(content, tmp_path)
    assert (rig.lenses[0].undistort(np.full_like(recorded, 200))[2:-2, 2:-2] > 150).all()
    assert np.abs(rig.pixel_from_cam[0] - k).max() > 1


def bent(entry, model, coefficients, focal=None):
    entry.update(distortion_model=model, distortion_coefficients={"data": coefficients})
    if focal is not None:
        entry["camera_matrix"]["data"] = [focal * 1600, 0, 800, 0, focal * 1600, 450, 0, 0, 1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda e: e.update(distortion_model="none", distortion_coefficients={"data": [0.1, 0, 0, 0]}),
            "has distortion coefficients, but no distortion_model",
        ),
        (
            lambda e: e["camera_matrix"]["data"].__setitem__(0, 12.0),
            "focal lengths of CAM_FRONT, 12 and .* of no camera",
        ),
        (lambda e: e["camera_matrix"]["data"].__setitem__(4, 9000.0), "neither more than 2 times the other"),
        (lambda e: bent(e, "plumb_bob", [1e10, 0, 0, 0, 0]), "pinhole that OpenCV chooses for it do not fit"),
        (lambda e: bent(e, "plumb_bob", [-1e5, 0, 0, 0, 0]), "give projection_matrix"),
        (lambda e: bent(e, "equidistant", [0.0] * 4, focal=0.18), "pinhole that OpenCV chooses for it do not fit"),
        (lambda e: e.update(camera_matrix={"data": ["a"] * 9}), "must be a list of numbers"),
    ],
)
def test_optics_that_cannot_be_are_told(change, says, tmp_path):
    content = written(names=("CAM_FRONT",))
    change(content["cameras"]["CAM_FRONT"])
    with pytest.raises(CalibrationError, match=says):
        read(content, tmp_path)
