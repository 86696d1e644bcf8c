"""Frames of a folder: images of one time belong together, and no two frames have one name."""

import pytest

from occjax.predict.frames import frames_of_folder
from occjax.predict.images import ImageError


def folder_of(tmp_path, times):
    for camera, names in times.items():
        (tmp_path / camera).mkdir()
        for name in names:
            (tmp_path / camera / f"{name}.jpg").touch()
    return tmp_path


def test_the_nearest_image_belongs_to_a_frame_unless_it_is_far(tmp_path):
    folder = folder_of(tmp_path, {"A": ("0.1", "2.1"), "B": ("0", "1", "2")})
    frames = [{name: path.stem for name, path in frame.items()} for frame in frames_of_folder(folder, ("A", "B"))]
    assert frames == [{"B": "0", "A": "0.1"}, {"B": "1"}, {"B": "2", "A": "2.1"}]


def test_the_camera_that_sets_the_times_names_the_frames(tmp_path):
    """Where two frames are near each other, a slower camera's image belongs to both."""
    folder = folder_of(tmp_path, {"A": ("1.2",), "B": ("0", "1", "1.4", "2.4", "3.4")})
    frames = list(frames_of_folder(folder, ("A", "B")))
    assert [frame["A"].stem for frame in frames if "A" in frame] == ["1.2", "1.2"]
    assert [next(iter(frame.values())).stem for frame in frames] == ["0", "1", "1.4", "2.4", "3.4"]


def test_what_is_no_time_and_no_camera_is_named(tmp_path):
    folder = folder_of(tmp_path, {"A": ("front",)})
    with pytest.raises(ImageError, match="must be named by their time"):
        list(frames_of_folder(folder, ("A",)))
    with pytest.raises(ImageError, match="holds no images .* cameras B; it holds A"):
        list(frames_of_folder(folder, ("B",)))
    (tmp_path / "B").mkdir()
    (tmp_path / "B/nan.png").touch()
    with pytest.raises(ImageError, match=r"a number, .*found nan\.png"):
        list(frames_of_folder(folder, ("B",)))


def test_two_images_of_one_time_are_told(tmp_path):
    folder = folder_of(tmp_path, {"A": ("1.0", "1.00", "2", "._2")})
    with pytest.raises(ImageError, match=r"two images of one time, 1\.0\.jpg and 1\.00\.jpg"):
        list(frames_of_folder(folder, ("A",)))
    (folder / "A/1.00.jpg").unlink()
    assert len(list(frames_of_folder(folder, ("A",)))) == 2
