"""Calibration files and rigs: what they mean, and that the usual mistakes are told."""

import copy

import numpy as np
import pytest
import yaml
from calibration_files import NAMES, poses, read, written, wxyz_of

import occjax
from occjax.predict.rig import NUSCENES_LIDAR, CalibrationError, Rig, levelness
from occjax.synthetic.rig import ego_from_sensor, pixel_from_cam


@pytest.mark.parametrize("frame", ["ego", "lidar"])
def test_a_file_says_where_the_cameras_look(frame, tmp_path):
    rig = read(written(frame), tmp_path)
    assert rig.cameras == NAMES and rig.frame == frame and rig.sizes.tolist() == [[1600, 900]] * 6
    wanted = np.linalg.inv(list(poses(frame).values()))
    np.testing.assert_allclose(rig.cam_from_grid, wanted, atol=1e-5)
    np.testing.assert_allclose(rig.pixel_from_cam, [pixel_from_cam(name, 1600, 900) for name in NAMES], rtol=1e-6)
    assert rig.lenses == (None,) * 6


@pytest.mark.parametrize(("frame", "other"), [("ego", "lidar"), ("lidar", "ego")])
def test_a_rig_that_knows_its_lidar_can_change_its_frame(frame, other, tmp_path):
    lidar = ego_from_sensor("LIDAR_TOP")
    pose = {"translation": lidar[:3, 3].tolist(), "rotation_wxyz": wxyz_of(lidar[:3, :3])}
    rig = read({"ego_from_lidar": pose, **written(frame)}, tmp_path)
    moved = rig.in_frame(other)
    assert rig.in_frame(frame) is rig and moved.frame == other
    np.testing.assert_allclose(moved.cam_from_grid, np.linalg.inv(list(poses(other).values())), atol=1e-5)
    with pytest.raises(CalibrationError, match=f"in the {frame} frame.*in the {other} frame.*ego_from_lidar: {{transl"):
        read(written(frame), tmp_path).in_frame(other)


def test_a_lidar_with_other_axes_is_told(tmp_path):
    # What is said to be nuScenes' is taken.
    remedy = yaml.safe_load(NUSCENES_LIDAR)
    assert read({"ego_from_lidar": remedy, **written()}, tmp_path).in_frame("lidar").frame == "lidar"
    for rotation in ({"rotation_xyzw": remedy["rotation_wxyz"]}, {"rotation_wxyz": [1, 0, 0, 0]}):
        with pytest.raises(CalibrationError, match="of another frame than nuScenes' LiDAR.*its y points 90° away"):
            read({"ego_from_lidar": {"translation": [1, 0, 1.8], **rotation}, **written()}, tmp_path)
    with pytest.raises(CalibrationError, match="ego_from_lidar is either {matrix: 4x4} or"):
        read({"ego_from_lidar": {"translation": [1, 0, 1.8]}, **written()}, tmp_path)


def test_every_spelling_of_a_pose_is_the_same(tmp_path):
    wanted = read(written(), tmp_path)
    link_from_optical = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    spellings = {
        "xyzw": lambda pose, q: {
            "grid_from_cam": {"translation": pose[:3, 3].tolist(), "rotation_xyzw": [*q[1:], q[0]]}
        },
        "ros": lambda pose, q: {
            "grid_from_cam": {
                "translation": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
                "rotation": dict(zip("wxyz", q, strict=True)),
            }
        },
        "matrix": lambda pose, q: {"grid_from_cam": {"matrix": pose.tolist()}},
        "inverse": lambda pose, q: {"cam_from_grid": {"matrix": np.linalg.inv(pose).ravel().tolist()}},
        "link": lambda pose, q: {
            "axes": "link",
            "grid_from_cam": {"matrix": (pose @ np.linalg.inv(link_from_optical)).tolist()},
        },
        "message": lambda pose, q: {"grid_from_cam": {"matrix": pose.tolist()}},
    }
    for name, spelled in spellings.items():
        content = written()
        for camera, entry in content["cameras"].items():
            rotation_wxyz = entry.pop("grid_from_cam")["rotation_wxyz"]
            entry |= spelled(poses("ego")[camera], rotation_wxyz)
            if name == "message":
                entry["K"], entry["D"] = entry.pop("camera_matrix")["data"], []
                del entry["distortion_coefficients"]
        found = read(content, tmp_path)
        np.testing.assert_allclose(found.cam_from_grid, wanted.cam_from_grid, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(found.pixel_from_cam, wanted.pixel_from_cam, err_msg=name)


def turned_about(content, change):
    content = copy.deepcopy(content)
    for entry in content["cameras"].values():
        change(entry)
    return content


def as_xyzw(entry):
    w, *xyz = entry["grid_from_cam"]["rotation_wxyz"]
    entry["grid_from_cam"]["rotation_wxyz"] = [*xyz, w]


def as_wxyz(entry):
    pose = entry["grid_from_cam"]
    pose["rotation_xyzw"] = pose.pop("rotation_wxyz")


@pytest.mark.parametrize("frame", ["ego", "lidar"])
@pytest.mark.parametrize(("mistake", "remedy"), [(as_xyzw, "rotation_xyzw"), (as_wxyz, "rotation_wxyz")])
def test_a_quaternion_in_another_order_than_it_says_is_told(frame, mistake, remedy, tmp_path):
    told = []
    for names in (NAMES, *((name,) for name in NAMES)):
        try:
            rig = read(turned_about(written(frame, names), mistake), tmp_path)
        except CalibrationError as error:
            assert f"read as {remedy} they stand level" in str(error)
            told.append(names)
            continue
        # Alone, a camera that looks along x may be turned one way or tilted the other: a tilt that cameras have.
        assert len(names) == 1 and np.degrees(np.arccos(levelness(np.linalg.inv(rig.cam_from_grid))[0])) < 37
    assert NAMES in told and len(told) >= 5


def moved_to(entry, key, value):
    entry[key] = value


def transposed(matrix) -> list:
    return np.array(matrix, float).T.ravel().tolist()


POSE = poses("ego")["CAM_FRONT"]
LEFT = poses("ego")["CAM_FRONT_LEFT"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: moved_to(e, "K", transposed(pixel_from_cam("CAM_FRONT", 1600, 900))), "CAM_FRONT is transposed"),
        (lambda e: moved_to(e, "grid_from_cam", {"matrix": transposed(POSE)}), "it is transposed: transpose it"),
        (
            lambda e: moved_to(e, "grid_from_cam", {"matrix": np.linalg.inv(LEFT).tolist()}),
            "as cam_from_grid they",
        ),
        (lambda e: moved_to(e, "axes", "link"), "with `axes: optical` they stand level"),
        (lambda e: moved_to(e, "grid_from_cam", {"matrix": (POSE * 2).tolist()}), "last row must be 0 0 0 1"),
        (lambda e: moved_to(e, "grid_from_cam", {"matrix": (POSE @ np.diag([-1, 1, 1, 1])).tolist()}), "or mirroring"),
        (lambda e: e["grid_from_cam"].update(translation=[1700, 20, 1510]), "give metres"),
        (lambda e: e["grid_from_cam"].update(rotation_wxyz=[1, 2, 3, 4]), "has length 5.48"),
        (
            lambda e: e["grid_from_cam"].update(rotation=e["grid_from_cam"].pop("rotation_wxyz")),
            "not say the order",
        ),
        (lambda e: moved_to(e, "cam_from_grid", e["grid_from_cam"]), "wants its pose once"),
        (lambda e: e.pop("grid_from_cam"), "wants its pose once, .*found \\[\\]"),
        (lambda e: moved_to(e, "image_width", 800), "not near the middle of an image of 800×900"),
        (lambda e: e.pop("image_height"), "lacks image_height"),
        (lambda e: e.update(distortion_model="brown"), "one of plumb_bob, .*not 'brown'"),
        (lambda e: e.update(distortion_model="equidistant"), "a fisheye has four coefficients"),
        (lambda e: e.update(rectification_matrix=transposed(POSE[:3, :3])), "turns its images"),
        (lambda e: e.update(fov=90), "unknown entries fov"),
        (lambda e: e.update(camera_matrix={"data": [1, 2]}), "must be 9 finite numbers; found 2"),
        (lambda e: e.update(k=[1.0] * 9), "has both k and K|has both camera_matrix and k; keep one"),
        (lambda e: e.update(width=1600), "has both width and image_width; keep one"),
        (lambda e: e.update(image_width=True), "lacks image_width, .*found True"),
        (lambda e: e["grid_from_cam"].update(matrix=POSE.tolist()), "given twice, as a matrix and by"),
    ],
)
def test_mistakes_in_a_file_are_told(change, says, tmp_path):
    content = written(names=("CAM_FRONT",))
    change(content["cameras"]["CAM_FRONT"])
    if "K" in content["cameras"]["CAM_FRONT"]:
        del content["cameras"]["CAM_FRONT"]["camera_matrix"]
    with pytest.raises(CalibrationError, match=says):
        read(content, tmp_path)


def test_what_is_no_calibration_is_told(tmp_path):
    with pytest.raises(CalibrationError, match="cannot read the calibration .*absent.yaml"):
        occjax.read_calibration(tmp_path / "absent.yaml")
    for content, says in (
        ("[", "is no YAML"),
        ("{frame: ego, cameras: {}, frame: lidar}", r"rig.yaml: 'frame' stands twice, once in line 1; keep one"),
        ("{frame: ego, cameras: {A: {}, B: {}, A: {}}}", "'A' stands twice"),
        ("{frame: ego, cameras: {'': {}}}", "a camera has no name"),
        ("- 1", "must be a mapping"),
        ("cameras: {}", "lacks frame"),
        ("{frame: map, cameras: {}}", "frame must be one of lidar, ego, base_link, not 'map'"),
        ("{frame: ego, cameras: {}}", "1 to 12 cameras"),
    ):
        (tmp_path / "rig.yaml").write_text(content)
        with pytest.raises(CalibrationError, match=says):
            occjax.read_calibration(tmp_path / "rig.yaml")
    (tmp_path / "rig.yaml").write_bytes("frame: Lücke".encode("latin-1"))
    with pytest.raises(CalibrationError, match="is no text in UTF-8; write it as such"):
        occjax.read_calibration(tmp_path / "rig.yaml")


def test_a_rig_is_as_it_was_checked():
    poses_of_rig = np.array(list(poses("lidar").values()), np.float32)
    k = np.array([pixel_from_cam(name, 1600, 900) for name in NAMES], np.float32)
    inverse = np.linalg.inv(poses_of_rig)
    rig = Rig.from_arrays(k, cam_from_grid=inverse, frame="lidar")
    before = rig.cam_from_grid.copy()
    inverse[:], k[:] = np.nan, np.nan
    np.testing.assert_array_equal(rig.cam_from_grid, before)
    assert np.isfinite(rig.pixel_from_cam).all()
    with pytest.raises(CalibrationError, match="as many lenses"):
        Rig(rig.cameras, rig.pixel_from_cam, rig.cam_from_grid, lenses=(None,))


def test_rigs_of_arrays():
    k = np.array([pixel_from_cam(name, 1600, 900) for name in NAMES])
    pose = np.array(list(poses("lidar").values()))
    rig = Rig.from_arrays(k, grid_from_cam=pose, cameras=NAMES, frame="lidar")
    np.testing.assert_allclose(rig.cam_from_grid @ pose, np.tile(np.eye(4), (6, 1, 1)), atol=1e-6)
    assert Rig.from_arrays(k, cam_from_grid=np.linalg.inv(pose), frame=None).cameras[5] == "camera_5"
    for change, says in (
        ({"cam_from_grid": pose}, "is not upright.*its inverse would be upright: is it grid_from_cam"),
        ({"cam_from_grid": pose, "grid_from_cam": pose}, "either cam_from_grid or grid_from_cam"),
        ({"grid_from_cam": pose[:5]}, r"grid_from_cam must have shape \(6, 4, 4\).*found \(5, 4, 4\)"),
        ({"grid_from_cam": pose * np.nan}, "not finite"),
        ({"grid_from_cam": np.swapaxes(pose, 1, 2)}, "it is transposed"),
        ({"grid_from_cam": pose, "cameras": ["CAM_FRONT"] * 6}, "each of its own name"),
        ({"grid_from_cam": pose, "frame": "map"}, "one of lidar, ego, not 'map'"),
    ):
        with pytest.raises(CalibrationError, match=says):
            Rig.from_arrays(k, **{"frame": "lidar", **change})
    many = np.tile(k[:1], (13, 1, 1))
    with pytest.raises(CalibrationError, match="1 to 12 cameras"):
        Rig.from_arrays(many, grid_from_cam=np.tile(pose[:1], (13, 1, 1)), frame="lidar")
