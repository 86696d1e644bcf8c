"""`--mode=predict`: files in, files out."""

import numpy as np
import pytest
import yaml
from page_reader import scene_of, unpacked
from PIL import Image

from occjax.__main__ import main
from occjax.classes import FREE
from occjax.errors import UserError
from occjax.metrics.prediction_files import read_prediction
from occjax.predict.calibration import read_calibration
from occjax.predict.cost_map import Robot, cost_map, seen_columns
from occjax.run import predict as predict_mode

NAMES = ("CAM_FRONT", "CAM_BACK")


@pytest.fixture
def calibration(sample, tmp_path):
    """The sample's rig as a file."""
    _, _, rig = sample
    cameras = {
        name: {
            "image_width": 160,
            "image_height": 90,
            "K": rig.pixel_from_cam[i].ravel().tolist(),
            "cam_from_grid": {"matrix": rig.cam_from_grid[i].tolist()},
        }
        for i, name in enumerate(rig.cameras)
    }
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump({"frame": "lidar", "cameras": cameras}))
    return path


@pytest.fixture
def run_mode(run, config, predictor, calibration, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_mode, "load_predictor", lambda *_, **__: predictor)

    def go(images, **options):
        output = tmp_path / "out"
        return predict_mode.predict_workdir(
            config, run, calibration=calibration, images=images, output=output, **options
        )

    return go


def test_a_frame_becomes_a_file_and_a_picture(run_mode, predictor, sample):
    _, files, rig = sample
    prediction, picture, page = run_mode(",".join(f"{name}={path}" for name, path in files.items()))
    semantics, grid = read_prediction(prediction)
    np.testing.assert_array_equal(semantics, predictor(files, rig).classes)
    assert grid == predictor.grid
    with Image.open(picture) as opened:
        assert opened.size[0] > 1000
    assert len(scene_of(page.read_text())["frames"]) == 1


@pytest.fixture
def frames(sample, tmp_path):
    """A folder of two frames, at 2 and 10 s; the second has no image of CAM_BACK."""
    _, files, _ = sample
    for name, path in files.items():
        (tmp_path / "frames" / name).mkdir(parents=True)
        for time in (10, 2) if name != "CAM_BACK" else (2,):
            (tmp_path / "frames" / name / f"{time}.jpg").write_bytes(path.read_bytes())
    return tmp_path / "frames"


def test_a_folder_becomes_a_file_for_each_time(run_mode, predictor, sample, frames):
    _, files, rig = sample
    written = run_mode(str(frames))
    assert [path.name for path in written] == ["2.npz", "10.npz", "scene.html"]
    whole, front = predictor(files, rig), predictor({"CAM_FRONT": files["CAM_FRONT"]}, rig)
    page = scene_of(written[-1].read_text())
    assert [frame["title"] for frame in page["frames"]] == ["2", "10"]
    for path, frame, wanted, cameras in zip(written, page["frames"], (whole, front), (NAMES, NAMES[:1]), strict=False):
        np.testing.assert_array_equal(read_prediction(path)[0], wanted.classes)
        ((name, (classes, levels)),) = unpacked(frame, page)[0].items()
        shown = wanted.classes.copy()
        # Where none of the frame's cameras looks, nothing is shown, but within a metre: two voxels.
        seen = np.pad(seen_columns(rig, predictor.grid, np.ones(shown.shape[2], bool), cameras), 2)
        near = np.any([np.roll(seen, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)], 0)[2:-2, 2:-2]
        assert not near.all() or cameras is NAMES
        shown[~near] = FREE
        # Of the LiDAR's frame: forward is y, left is -x.
        np.testing.assert_array_equal(classes, shown.swapaxes(0, 1)[:, ::-1])
        confidence = wanted.confidence().swapaxes(0, 1)[:, ::-1]
        assert name == "prediction" and np.abs(levels / 15 - confidence)[classes != FREE].max() < 0.04
    assert len(page["frames"][1]["images"]) == len(rig.cameras)


def test_every_frame_is_read_once(run_mode, predictor, frames, monkeypatch):
    read, prepare = [], type(predictor).prepare
    monkeypatch.setattr(type(predictor), "prepare", lambda *frame: read.append(frame) or prepare(*frame))
    run_mode(str(frames))
    assert len(read) == 2


def test_the_page_shows_the_first_frames(run_mode, frames):
    page = scene_of(run_mode(str(frames), most_frames=1)[-1].read_text())
    assert [frame["title"] for frame in page["frames"]] == ["2"]
    with pytest.raises(UserError, match="--frames must be at least 1, not 0"):
        run_mode(str(frames), most_frames=0)


def test_a_robot_gets_a_cost_map_of_each_frame(run_mode, predictor, sample, frames, calibration):
    _, files, _ = sample
    robot = Robot((-1.6, 0.4), radius_m=0.5)
    written = run_mode(str(frames), robot=robot)
    of_frame = ("{}.npz", "{}_cost_map.npz", "{}_cost_map.png")
    assert [path.name for path in written] == [n.format(t) for t in (2, 10) for n in of_frame] + ["scene.html"]
    rig = read_calibration(calibration)
    frame = {"CAM_FRONT": files["CAM_FRONT"]}
    wanted = cost_map(predictor(frame, rig), rig, robot, cameras=frame)
    with np.load(written[4]) as found, np.load(written[1]) as before:
        np.testing.assert_array_equal(found["values"], wanted.values)
        assert found["resolution_m"] == 0.5 and found["origin_m"].tolist() == [-4, -4]
        # What the other camera would have seen is not known.
        assert np.sum(found["values"] == -1) > np.sum(before["values"] == -1)
    with pytest.raises(UserError, match="no voxel has its centre between 50 and 60 m"):
        run_mode(str(frames), robot=Robot((50, 60)))


def test_a_bag_has_a_message_of_each_kind_for_each_frame(run_mode, frames, tmp_path):
    rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="pip install 'occjax[ros]'")
    written = run_mode(str(frames), robot=Robot((-1.6, 0.4)), bag=tmp_path / "bag")
    assert written[-1] == tmp_path / "bag"
    with rosbag2.Reader(tmp_path / "bag") as bag:
        times = sorted((time_ns, connection.topic) for connection, time_ns, _ in bag.messages())
    seconds = 10**9
    topics = ["/occupancy/cost_map", "/occupancy/points"]
    assert times == [(time * seconds, topic) for time in (2, 10) for topic in topics]


def test_a_bag_without_a_robot_has_points_alone(run_mode, frames, tmp_path):
    rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="pip install 'occjax[ros]'")
    run_mode(str(frames), bag=tmp_path / "bag")
    with rosbag2.Reader(tmp_path / "bag") as bag:
        assert list(bag.topics) == ["/occupancy/points"] and bag.message_count == 2


def test_a_folder_with_one_frame_names_its_files_by_their_time(run_mode, frames):
    (frames / "CAM_FRONT/10.jpg").unlink()
    assert [path.name for path in run_mode(str(frames))] == ["2.npz", "2.png", "scene.html"]


def test_what_frames_lack_is_told(run_mode, frames, caplog):
    (frames / "CAM_SIDE").mkdir()
    (frames / "CAM_BACK/2.jpg").rename(frames / "CAM_BACK/2.25.jpg")
    with caplog.at_level("INFO"):
        run_mode(str(frames))
    assert (
        "2 frames of CAM_BACK, CAM_FRONT; CAM_BACK has no image in 1 of them; images of one frame are up to 0.25 "
        "apart, in the unit of their names; the calibration knows no CAM_SIDE"
    ) in caplog.text
    assert "predicting: 2/2 frames" in caplog.text


def test_what_a_robot_lacks_is_told(capsys, run, calibration, tmp_path):
    mode = ["--mode=predict", f"--workdir={run}", f"--calibration={calibration}", "--images=frames", "--output=out"]
    assert main([*mode, "--robot-radius=0.4"]) == 2
    assert "name them with --robot-height=LOW,HIGH" in capsys.readouterr().err
    for text in ("1", "1,x", "2,1", "nan,1"):
        with pytest.raises(SystemExit):
            main([*mode, f"--robot_height={text}"])
        assert f"--robot-height must be LOW,HIGH, two numbers in this order, not '{text}'" in capsys.readouterr().err


def test_a_bag_and_the_output_are_two_folders(run_mode, frames, tmp_path):
    for bag in (tmp_path / "out", tmp_path):
        with pytest.raises(UserError, match="choose another --ros-bag"):
            run_mode(str(frames), bag=bag)


def test_a_camera_is_named_once(run_mode):
    with pytest.raises(UserError, match="--images names a camera twice"):
        run_mode("CAM_FRONT=a.jpg,CAM_FRONT=b.jpg")


@pytest.mark.parametrize("images", ["CAM_FRONT=", "=front.jpg", "front.jpg,CAM_BACK=back.jpg"])
def test_images_that_are_not_named_are_told(run_mode, images):
    with pytest.raises(UserError, match="--images is CAMERA=FILE,CAMERA=FILE or a folder"):
        run_mode(images)


def test_what_it_wants_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--mode=predict", "--images=frames"])
    assert "--mode=predict wants --calibration and --output" in capsys.readouterr().err
