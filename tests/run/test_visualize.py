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
from occjax.run.visualize import rows_of_scene, rows_of_tokens, visualize


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
