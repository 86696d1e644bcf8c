"""The predictor sees what evaluation sees, whatever images and rigs come, and tells what is wrong about them."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import jax
import numpy as np
import pytest
import yaml

import occjax
from occjax.classes import FREE
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.metrics.prediction_files import read_prediction
from occjax.predict.cost_map import seen_columns
from occjax.predict.forward import make_predictor
from occjax.predict.images import ImageError
from occjax.predict.rig import CalibrationError, Rig
from occjax.predict.stored_weights import restore
from occjax.synthetic.rig import ego_from_sensor
from occjax.system.mesh import make_mesh
from occjax.types import CameraRig


def scaled(x, y=None):
    """Factors of intrinsics for an image that is scaled."""
    return np.array([[x], [x if y is None else y], [1]])


def pixels_of(files) -> dict[str, np.ndarray]:
    return {name: cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for name, path in files.items()}


@pytest.fixture(scope="module")
def occupancy(predictor, sample):
    _, files, rig = sample
    return predictor(files, rig)


def test_a_sample_is_what_evaluation_makes_of_it(predictor, config, run, sample, occupancy):
    row, files, rig = sample
    loader = make_eval_loader(config, load_index(config.data), "val", Parts(), batch_size=4)
    batch = next(loader)
    loader.close()
    frame = predictor.prepare(files, rig)
    np.testing.assert_array_equal(frame.images[0], batch.images[row])
    for name, ours, theirs in zip(CameraRig._fields, frame.rig, batch.rig, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[row], err_msg=name)
    # The averaged weights, by the way that evaluation goes.
    mesh = make_mesh()
    predict_fn = make_predictor(config, mesh, lambda logits, batch: logits)(restore(config, run, mesh))
    logits = predict_fn(batch)[row]
    np.testing.assert_allclose(occupancy.logits, logits, atol=1e-4)
    assert np.std(logits) > 0.1


def test_what_an_occupancy_says(predictor, occupancy, tmp_path):
    logits = np.asarray(occupancy.logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert occupancy.classes.dtype == np.uint8 and occupancy.classes.shape == predictor.grid.shape
    np.testing.assert_array_equal(occupancy.classes, logits.argmax(-1))
    np.testing.assert_allclose(occupancy.probabilities, probabilities, atol=1e-6)
    entropy = -(probabilities * np.log(probabilities)).sum(-1)
    np.testing.assert_allclose(occupancy.entropy(), entropy, atol=1e-5)
    points = occupancy.points()
    assert 0 < len(points.classes) < occupancy.classes.size
    index, inside = predictor.grid.indices_from_points(points.position_m)
    assert inside.all() and FREE not in points.classes and len(points.classes) == (occupancy.classes != FREE).sum()
    np.testing.assert_array_equal(occupancy.classes[tuple(index.T)], points.classes)
    np.testing.assert_allclose(probabilities[(*index.T, points.classes)], points.probability, atol=1e-6)
    bev = occupancy.bev()
    for x, y in np.ndindex(*bev.shape):
        above = [c for c in occupancy.classes[x, y, ::-1] if c != FREE]
        assert bev[x, y] == (above[0] if above else FREE)
    path = occupancy.save(tmp_path / "out.npz", probabilities=True)
    semantics, grid = read_prediction(path)
    np.testing.assert_array_equal(semantics, occupancy.classes)
    assert grid == predictor.grid
    with np.load(path) as file:
        np.testing.assert_allclose(file["probabilities"], occupancy.probabilities, atol=1e-3)
        assert json.loads(str(file["grid"]))["frame"] == "lidar"


def test_images_come_as_files_bytes_or_pixels_in_any_order(predictor, sample, occupancy):
    _, files, rig = sample
    data = {name: path.read_bytes() for name, path in reversed(files.items())}
    np.testing.assert_array_equal(predictor(data, rig).logits, occupancy.logits)
    of_pixels = predictor.prepare(pixels_of(files), rig).images
    # Decoded at full size and then resized, where a file is decoded at half of it: the same picture but for that.
    difference = np.abs(of_pixels.astype(int) - predictor.prepare(files, rig).images.astype(int))
    assert difference.mean() < 3
    as_list = predictor.prepare(list(pixels_of(files).values()), rig)
    np.testing.assert_array_equal(as_list.images, of_pixels)
    # Each camera of its own size, with intrinsics to match: the same input.
    k = rig.pixel_from_cam.copy()
    k[0] *= scaled(2)
    larger = pixels_of(files)
    larger["CAM_FRONT"] = larger["CAM_FRONT"].repeat(2, axis=0).repeat(2, axis=1)
    other = Rig(rig.cameras, k, rig.cam_from_grid)
    doubled = predictor.prepare(larger, other).images.astype(int)
    assert np.abs(doubled - of_pixels).max() <= 1
    # At the size of the input nothing is resized.
    small = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3)).astype(np.uint8)
    frame = predictor.prepare(
        small, Rig(rig.cameras, rig.pixel_from_cam * scaled(64 / 160, 32 / 90), rig.cam_from_grid)
    )
    np.testing.assert_array_equal(frame.images[0], small)


def test_a_missing_camera_says_nothing(predictor, sample, occupancy):
    _, files, rig = sample
    front = predictor({"CAM_FRONT": files["CAM_FRONT"]}, rig)
    also = predictor([files["CAM_FRONT"], None], rig)
    np.testing.assert_array_equal(front.logits, also.logits)
    assert 0 < front.coverage < occupancy.coverage
    # What its calibration says is of no matter then.
    poses = rig.cam_from_grid.copy()
    poses[1, :3, 3] += 1
    moved = Rig(rig.cameras, rig.pixel_from_cam, poses)
    np.testing.assert_allclose(predictor([files["CAM_FRONT"], None], moved).logits, front.logits, atol=1e-5)
    with pytest.raises(ImageError, match="no image: give that of at least one camera of CAM_FRONT, CAM_BACK"):
        predictor({}, rig)


def test_threads_get_their_own_frames(predictor, sample):
    _, files, rig = sample
    rng = np.random.default_rng(1)
    frames = [{name: rng.integers(0, 256, (90, 160, 3)).astype(np.uint8) for name in files} for _ in range(4)]
    alone = [np.asarray(predictor(frame, rig).logits) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda frame: predictor(frame, rig), frames * 2))
    for frame, found in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(found.logits, frame)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_a_rig_that_stays_is_predicted_the_same(predictor, sample):
    _, files, rig = sample
    frames = [files, {"CAM_FRONT": files["CAM_FRONT"]}]
    wanted = [predictor(frame, rig) for frame in frames]
    predictor.fix(rig)
    try:
        assert len(predictor._fixed) == 1
        for frame, before in zip(frames, wanted, strict=True):
            found = predictor(frame, rig)
            assert found.coverage == pytest.approx(before.coverage)
            np.testing.assert_allclose(found.logits, before.logits, atol=1e-4)
            assert np.mean(found.classes == before.classes) > 0.9999
    finally:
        predictor._fixed.clear()
    # One camera beside the grid, and no image but its own.
    poses = rig.cam_from_grid.copy()
    poses[1, 2, 3] += 29
    half = Rig(rig.cameras, rig.pixel_from_cam, poses, rig.sizes)
    predictor.fix(half)
    try:
        with pytest.raises(CalibrationError, match="none of the 1 cameras sees anything of the grid"):
            predictor({"CAM_BACK": files["CAM_BACK"]}, half)
    finally:
        predictor._fixed.clear()
    beside = Rig(rig.cameras, rig.pixel_from_cam, rig.cam_from_grid + np.eye(4)[3] * [[0], [0], [29], [0]], rig.sizes)
    for other, says in (
        (beside, "none of the 2 cameras sees anything of the grid"),
        (Rig(rig.cameras, rig.pixel_from_cam, rig.cam_from_grid), "has to say the sizes"),
    ):
        with pytest.raises(CalibrationError, match=says):
            predictor.fix(other)


def test_it_is_compiled_once_for_a_number_of_cameras(predictor, sample, monkeypatch):
    _, files, rig = sample
    program = predictor.program(2)
    monkeypatch.setattr(jax, "jit", lambda *_: pytest.fail("compiled again"))
    other = Rig(rig.cameras, rig.pixel_from_cam * scaled(1.1), rig.cam_from_grid)
    predictor(files, other)
    assert predictor.program(2) is program


def test_a_stream_gives_the_frames_in_order_and_their_latency(predictor, sample, tmp_path, capsys):
    _, files, rig = sample
    for name, path in files.items():
        (tmp_path / name).mkdir()
        for time in (100, 101, 102):
            if not (time == 101 and name == "CAM_BACK"):
                # Cameras do not fire at once.
                (tmp_path / name / f"{time + 0.2 * (name == 'CAM_BACK')}.jpg").write_bytes(path.read_bytes())
    stream = predictor.stream(tmp_path, rig)
    found = list(stream)
    whole, front = predictor(files, rig), predictor({"CAM_FRONT": files["CAM_FRONT"]}, rig)
    for occupancy, wanted in zip(found, (whole, front, whole), strict=True):
        np.testing.assert_array_equal(occupancy.logits, wanted.logits)
    said = capsys.readouterr().out
    assert "3 frames, ms" in said and "p50" in said and "compute" in said and said.strip() == stream.latency()
    with pytest.raises(ImageError, match="holds no images .*CAM_FRONT, CAM_BACK; it holds no folder of a camera"):
        predictor.stream(tmp_path / "CAM_FRONT", rig).__iter__().__next__()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda images, rig: (images | {"CAM_TOP": images["CAM_BACK"]}, rig), "images of CAM_TOP, which the rig lacks"),
        (lambda images, rig: ([images["CAM_BACK"]], rig), "1 images for the 2 cameras"),
        (lambda images, rig: (images["CAM_BACK"], rig), "a frame is an image for each camera"),
        (lambda images, rig: ({"CAM_BACK": images["CAM_BACK"] / 255}, rig), "uint8 array .*not an array of float64"),
        (lambda images, rig: ({"CAM_BACK": images["CAM_BACK"][::2, ::2]}, rig), "80×45, but its calibration is of 160"),
        (
            lambda images, rig: (images, Rig(rig.cameras, rig.pixel_from_cam * scaled(2), rig.cam_from_grid)),
            "not near the middle of an image of 160×90: they are of another size",
        ),
        (lambda images, rig: ({"CAM_BACK": b"no image"}, rig), "CAM_BACK: file is neither JPEG nor PNG"),
        (lambda images, rig: ({"CAM_BACK": "absent.jpg"}, rig), "cannot read the image of CAM_BACK, absent.jpg"),
    ],
)  # fmt: skip
def test_wrong_images_are_told(predictor, sample, change, says):
    _, files, rig = sample
    with pytest.raises(ImageError, match=says):
        predictor(*change(pixels_of(files), rig))


def test_a_rig_that_does_not_fit_the_grid_is_told(predictor, sample):
    _, files, rig = sample
    with pytest.raises(CalibrationError, match="rig is in the ego frame.*lies in the lidar frame"):
        predictor(files, Rig(rig.cameras, rig.pixel_from_cam, rig.cam_from_grid, rig.sizes, "ego"))
    # Beside the grid of 8 m and looking away from it.
    poses = np.linalg.inv(rig.cam_from_grid)
    poses[0, 1, 3], poses[1, 1, 3] = 20, -20
    with pytest.raises(CalibrationError, match="none of the 2 cameras sees anything of the grid"):
        predictor(files, Rig.from_arrays(rig.pixel_from_cam, grid_from_cam=poses, cameras=rig.cameras, frame="lidar"))


def test_a_rig_in_the_other_frame_is_brought_to_the_grids(predictor, sample):
    _, files, rig = sample
    ego_from_lidar = ego_from_sensor("LIDAR_TOP")
    cam_from_ego = rig.cam_from_grid @ np.linalg.inv(ego_from_lidar)
    in_ego = Rig(rig.cameras, rig.pixel_from_cam, cam_from_ego, rig.sizes, "ego", ego_from_lidar=ego_from_lidar)
    found, wanted = predictor(files, in_ego), predictor(files, rig)
    np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-4)
    band = np.ones(predictor.grid.shape[2], bool)
    seen = seen_columns(in_ego, predictor.grid, band, ["CAM_FRONT"])
    np.testing.assert_array_equal(seen, seen_columns(rig, predictor.grid, band, ["CAM_FRONT"]))
    assert 0 < seen.mean() < 1


@pytest.mark.slow
def test_three_fisheyes_of_a_file_see_what_pinholes_see(predictor, config, tmp_path):
    """Pictures of the city are bent, pixel by pixel through OpenCV's projection, and calibrated by a file."""
    cameras = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_BACK")
    token = load_index(config.data).split("val").tokens[0]
    files, rig = occjax.nuscenes_frame(config.data.root, token, cameras=cameras)
    coefficients = np.array([-0.05, 0.02, -0.008, 0.002])
    recorded, entries = {}, {}
    for camera, (name, picture) in enumerate(pixels_of(files).items()):
        height, width = picture.shape[:2]
        pinhole = rig.pixel_from_cam[camera].astype(np.float64)
        # Larger than the bent picture of all that the pinhole sees; what lies beyond is black.
        fisheye = pinhole * scaled(0.8)
        fisheye[:2, 2] = width / 2, height / 2
        u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        bent = np.stack([u, v], -1).reshape(-1, 1, 2)
        straight = cv2.fisheye.undistortPoints(bent, fisheye, coefficients, P=pinhole).reshape(height, width, 2)
        image = cv2.remap(picture, *np.moveaxis(straight.astype(np.float32), -1, 0), cv2.INTER_CUBIC)
        recorded[name] = tmp_path / f"{name}.png"
        cv2.imwrite(str(recorded[name]), image[..., ::-1])
        entries[name] = {
            "image_width": width,
            "image_height": height,
            "camera_matrix": {"data": fisheye.ravel().tolist()},
            "distortion_model": "equidistant",
            "distortion_coefficients": {"data": coefficients.tolist()},
            "projection_matrix": {"data": np.column_stack([pinhole, np.zeros(3)]).ravel().tolist()},
            "cam_from_grid": {"matrix": rig.cam_from_grid[camera].tolist()},
        }
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump({"frame": "lidar", "cameras": entries}))
    wanted = predictor(pixels_of(files), rig)
    found = predictor(recorded, occjax.read_calibration(path))
    # As if they were pinholes.
    careless = predictor(recorded, rig)
    differences = [np.abs(np.asarray(other.logits - wanted.logits)).mean() for other in (found, careless)]
    assert differences[0] < 0.25 * differences[1]
    assert np.mean(found.classes == wanted.classes) > np.mean(careless.classes == wanted.classes)


def test_importing_the_package_loads_no_jax(run):
    code = """
import sys, occjax
assert "jax" not in sys.modules and "cv2" not in sys.modules
print(occjax.load.__name__, "jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "load True\n", done.stderr
    assert "load" in dir(occjax)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        occjax.__getattr__("lode")
