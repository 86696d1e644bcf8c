"""Where the sensors look, and how poses are written."""

import numpy as np
from pyquaternion import Quaternion

from occjax.config import NUSCENES_CAMERAS
from occjax.geometry import rotation_from_quaternion
from occjax.synthetic import rig


def test_quaternions_agree_with_pyquaternion():
    rng = np.random.default_rng(0)
    for q in rng.normal(size=(50, 4)):
        matrix = Quaternion(q).normalised.rotation_matrix
        found = rig.quaternion_from_rotation(matrix)
        assert found[0] >= 0
        np.testing.assert_allclose(rotation_from_quaternion(found), matrix, atol=1e-12)


def test_cameras_look_where_their_names_say():
    axis = {channel: rig.ego_from_sensor(channel)[:3, 2] for channel in NUSCENES_CAMERAS}
    assert axis["CAM_FRONT"][0] > 0.99 and axis["CAM_BACK"][0] < -0.99
    for channel, (x, y, _) in axis.items():
        if "LEFT" in channel or "RIGHT" in channel:
            assert (y > 0) == ("LEFT" in channel) and (x > 0) == ("FRONT" in channel)
        down = rig.ego_from_sensor(channel)[:3, 1]
        assert down[2] < -0.99


def test_lidar_frame_is_x_right_y_forward_z_up():
    pose = rig.ego_from_sensor(rig.LIDAR)
    np.testing.assert_allclose(pose[:3, :3], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=0.03)
    assert not np.allclose(pose[:3, :3], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=0.005)  # mounted not quite straight


def test_fields_of_view_and_scaling():
    for channel in NUSCENES_CAMERAS:
        full, half = (rig.pixel_from_cam(channel, w, h) for w, h in ((1600, 900), (800, 450)))
        np.testing.assert_allclose(half[:2], full[:2] / 2)
        degrees = np.degrees(2 * np.arctan(800 / full[0, 0]))
        assert (85 < degrees < 92) if channel == "CAM_BACK" else (62 < degrees < 72)
