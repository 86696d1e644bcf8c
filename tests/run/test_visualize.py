import cv2
import jax
import numpy as np
import pytest
from loading import make_config
from nuscenes_root import write_root
from PIL import Image, ImageSequence

from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.drawing.movie import FRAME_SIZE, draw_frame, write_movie
from occjax.drawing.style import LEGEND
from occjax.drawing.top_view import ERROR_COLORS
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.metrics.on_device import VoxelSummary
from occjax.run.visualize import list_scenes, rows_of_scene, rows_of_tokens, visualize


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("world") / "nuscenes", scenes={"scene-0003": 2, "scene-0061": 1})
    config = make_config(root)
    keyframes = load_index(config.data).everything
    return (
        config,
        keyframes,
        SampleReader(config, open_source(config.data, keyframes, Parts(labels=True)), augment=None),
    )


def truth_teller(batch):
    assert len(jax.tree.leaves(batch)[0]) == 2
    return VoxelSummary(batch.labels.semantics, None, None)


def test_pictures_of_tokens(world, tmp_path):
    config, keyframes, reader = world
    rows = rows_of_tokens(keyframes, keyframes.tokens[1:])
    files = visualize(truth_teller, reader, keyframes, rows, config, output_dir=tmp_path, batch_size=2)
    assert [path.name.split("_")[2][:-4] for path in files] == keyframes.tokens[1:]
    assert all(np.asarray(Image.open(path)).std() > 20 for path in files)


def test_without_labels_the_prediction_is_drawn_alone(world, tmp_path):
    config, keyframes, labelled = world

    def reader(row, rng):
        return labelled(row, rng)._replace(labels=None)

    def predict_fn(batch):
        return VoxelSummary(np.full((2, *config.grid.shape), 11, np.uint8), None, None)

    (picture,) = visualize(predict_fn, reader, keyframes, [0], config, output_dir=tmp_path, batch_size=2)
    errors = [np.all(np.asarray(Image.open(picture)) == color, axis=-1).sum() for color in ERROR_COLORS.values()]
    assert max(errors) < 500  # neither a map of errors nor its legend
    movie = tmp_path / "film.gif"
    assert visualize(predict_fn, reader, keyframes, [0], config, output_dir=tmp_path, movie=movie, batch_size=2) == [
        movie
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_film_of_a_scene(world, tmp_path, suffix):
    config, keyframes, reader = world
    rows = rows_of_scene(keyframes, "scene-0003")
    movie = tmp_path / f"scene{suffix}"
    assert visualize(truth_teller, reader, keyframes, rows, config, output_dir=tmp_path, movie=movie, batch_size=2) == [
        movie
    ]
    film = cv2.VideoCapture(str(movie))
    frames = [film.read()[1] for _ in rows]
    assert film.read()[0] is False
    assert all(frame.shape == (FRAME_SIZE[1], FRAME_SIZE[0], 3) and frame.std() > 20 for frame in frames)
    assert [path.name for path in tmp_path.iterdir()] == [movie.name]


def test_the_legend_of_a_gif_keeps_its_colours(tmp_path):
    rng = np.random.default_rng(0)
    grid = VoxelGrid("ego", (-20.0, -20.0, -1.0), 0.5, (80, 80, 8))
    semantics = rng.integers(0, 18, grid.shape, np.uint8)
    cameras = rng.integers(0, 256, (2, 1, 36, 64, 3), np.uint8)  # every colour there is competes for the palette
    frames = [draw_frame(images, ("CAM_FRONT",), None, semantics, grid, title="") for images in cameras]
    write_movie(frames, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        pictures = [np.asarray(picture.convert("RGB")) for picture in ImageSequence.Iterator(film)]
    for frame, written in zip(frames, pictures, strict=True):
        for name, color in LEGEND:
            patch = np.all(frame[-48:] == color, axis=-1)
            assert patch.sum() > 100 and np.all(written[-48:][patch] == color), name


def test_a_gif_mixes_the_colours_that_its_palette_lacks(tmp_path):
    grid = VoxelGrid("ego", (-20.0, -20.0, -1.0), 0.5, (80, 80, 8))
    semantics = np.full(grid.shape, 17, np.uint8)
    # Skies: blues of which a palette that noise competes for has few.
    down = np.linspace(0, 1, 108)[:, None]
    sky = np.stack([70 + 130 * down, 120 + 90 * down, 190 + 50 * down], -1).repeat(192, axis=1).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, sky.shape, np.uint8)
    frame = draw_frame(np.stack([sky, noise, noise]), ("", "", ""), None, semantics, grid, title="")
    write_movie([frame, frame], tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        written = np.asarray(film.convert("RGB"))
    # What an eye sees is the mean of a few pixels: from row to row of it nothing jumps.
    view = np.s_[12:112, 20:180]
    seen, meant = (picture[view].reshape(25, 4, 40, 4, 3).mean((1, 2, 3)) for picture in (written, frame))
    assert np.abs(seen - meant).max() < 8 and np.abs(np.diff(seen, axis=0) - np.diff(meant, axis=0)).max() < 8


def test_a_film_names_its_cameras():
    grid = VoxelGrid("ego", (-20.0, -20.0, -1.0), 0.5, (80, 80, 8))
    semantics = np.full(grid.shape, 17, np.uint8)
    images = np.full((2, 36, 64, 3), 90, np.uint8)
    # One upright, whatever the array's shape is.
    frame = draw_frame(images, ("CAM_FRONT", "CAM_BACK"), None, semantics, grid, title="", aspects=[16 / 9, 0.5])
    strip = frame[:132]
    is_image = np.all(strip == 90, axis=-1)
    columns = np.flatnonzero(is_image[60])
    gap = np.flatnonzero(np.diff(columns) > 1)[0]
    widths, height = (gap + 1, len(columns) - gap - 1), is_image[:, columns[gap + 1] + 2 :].any(1).sum()
    assert height == 116 and widths == (round(116 * 16 / 9), 58)
    assert np.all(strip[10:24, 10:200] > 230, axis=-1).sum() > 50  # their names


def test_scenes_are_listed_with_their_splits(world):
    config, keyframes, _ = world
    first = {name: keyframes.tokens[keyframes.scene_names.index(name)] for name in keyframes.scene_names}
    assert list_scenes(config, None).splitlines() == [
        f"scene-0003  val, 2 keyframes from sample {first['scene-0003']}",
        f"scene-0061  train, mini_train, train_detect, 1 keyframes from sample {first['scene-0061']}",
    ]


def test_what_cannot_be_drawn_is_named(world, tmp_path):
    keyframes = world[1]
    with pytest.raises(UserError, match="token nobody"):
        rows_of_tokens(keyframes, ["nobody"])
    with pytest.raises(UserError, match="no scene 'scene-9999' among 2: scene-0003, scene-0061"):
        rows_of_scene(keyframes, "scene-9999")
    with pytest.raises(UserError, match=".mp4 or .gif"):
        write_movie([], tmp_path / "film.avi")
    with pytest.raises(UserError, match="no frame"):
        write_movie([], tmp_path / "film.gif")
