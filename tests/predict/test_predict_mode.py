"""`--mode=predict`: files in, files out."""

import numpy as np
import pytest
import yaml
from PIL import Image

from occjax.__main__ import main
from occjax.errors import UserError
from occjax.metrics.prediction_files import read_prediction
from occjax.run import predict as predict_mode


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

    def go(images):
        output = tmp_path / "out"
        return predict_mode.predict_workdir(config, run, calibration=calibration, images=images, output=output)

    return go


def test_a_frame_becomes_a_file_and_a_picture(run_mode, predictor, sample):
    _, files, rig = sample
    prediction, picture = run_mode(",".join(f"{name}={path}" for name, path in files.items()))
    semantics, grid = read_prediction(prediction)
    np.testing.assert_array_equal(semantics, predictor(files, rig).classes)
    assert grid == predictor.grid
    with Image.open(picture) as opened:
        assert opened.size[0] > 1000


def test_a_folder_becomes_a_file_for_each_time(run_mode, predictor, sample, tmp_path):
    _, files, rig = sample
    for name, path in files.items():
        (tmp_path / "frames" / name).mkdir(parents=True)
        for time in (10, 2):
            (tmp_path / "frames" / name / f"{time}.jpg").write_bytes(path.read_bytes())
    written = run_mode(str(tmp_path / "frames"))
    assert [path.name for path in written] == ["2.npz", "10.npz"]
    np.testing.assert_array_equal(read_prediction(written[1])[0], predictor(files, rig).classes)


@pytest.mark.parametrize("images", ["CAM_FRONT=", "=front.jpg", "front.jpg,CAM_BACK=back.jpg"])
def test_images_that_are_not_named_are_told(run_mode, images):
    with pytest.raises(UserError, match="--images is CAMERA=FILE,CAMERA=FILE or a folder"):
        run_mode(images)


def test_what_it_wants_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["--mode=predict", "--images=frames"])
    assert "--mode=predict wants --calibration and --output" in capsys.readouterr().err
