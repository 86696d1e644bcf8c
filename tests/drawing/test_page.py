"""The page as text: what is packed comes back, it is small, and nothing in it is taken for markup."""

import re

import numpy as np
import pytest
from page_reader import scene_of, unpacked

from occjax.classes import CLASS_COLORS, FREE, IGNORE, OTHERS
from occjax.drawing.page import page_of, write_page
from occjax.drawing.page_frame import FrameVolume, SceneFrame, pack_frame
from occjax.errors import UserError
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, VoxelGrid

CAR, ROAD = 4, 11
CAMERAS = tuple(f"CAM_{i}" for i in range(6))
NO_IMAGES = np.zeros((0, 9, 16, 3), np.uint8)
# No height is a multiple of 8, and no two sides are alike.
EGO = VoxelGrid("ego", (-2.0, -3.0, -1.0), 0.5, (9, 7, 11))
LIDAR = VoxelGrid("lidar", (-3.0, -2.0, -2.84), 0.5, (7, 9, 11))


@pytest.mark.parametrize("grid", [EGO, LIDAR], ids=["ego", "lidar"])
def test_what_is_packed_comes_back(grid):
    rng = np.random.default_rng(0)
    truth, prediction, teacher = rng.integers(0, 18, (3, *EGO.shape), np.uint8)
    teacher[2:4] = IGNORE
    counted = rng.random(EGO.shape) < 0.5
    probability = rng.random(EGO.shape, np.float32)

    def on_grid(values):
        # Written out once more: grid x is the car's right, grid y its front.
        return values if grid.frame == "ego" else values[:, ::-1].swapaxes(0, 1)

    frame = SceneFrame(
        "scene-0001",
        NO_IMAGES,
        FrameVolume(on_grid(prediction), on_grid(probability)),
        FrameVolume(on_grid(truth)),
        FrameVolume(on_grid(teacher), on_grid(1 - probability)),
        on_grid(counted),
    )
    scene = scene_of(page_of([pack_frame(frame, (), grid.frame)], grid, title="t"))
    volumes, seen = unpacked(scene["frames"][0], scene)
    assert list(volumes) == ["truth", "prediction", "teacher"]
    np.testing.assert_array_equal(volumes["truth"][0], truth)
    np.testing.assert_array_equal(volumes["prediction"][0], prediction)
    np.testing.assert_array_equal(volumes["teacher"][0], np.where(teacher == IGNORE, FREE, teacher))
    is_drawn = prediction != FREE
    assert np.abs(volumes["prediction"][1] / 15 - probability)[is_drawn].max() <= 0.5 / 15 + 1e-6
    either = is_drawn | (truth != FREE)
    np.testing.assert_array_equal(seen, counted & either)
    assert scene["grid"] == {
        "lower": [-2.0, pytest.approx(-3.0 if grid is EGO else -0.5), grid.lower_m[2]],
        "size": 0.5,
        "shape": [9, 7, 11],
    }
    assert scene["colors"] == CLASS_COLORS.tolist()


@pytest.mark.parametrize("has_truth", [False, True])
@pytest.mark.parametrize("has_teacher", [False, True])
def test_panels_are_what_is_there(has_truth, has_teacher):
    volume = FrameVolume(np.full(EGO.shape, CAR, np.uint8))
    frame = SceneFrame("s", NO_IMAGES, volume, volume if has_truth else None, volume if has_teacher else None)
    scene = scene_of(page_of([pack_frame(frame, (), "ego")], EGO, title="t"))
    there = {"truth": has_truth, "prediction": True, "teacher": has_teacher}
    assert list(scene["panels"]) == [name for name, is_there in there.items() if is_there]
    assert not any(scene["panels"].values()) and scene["classes"] == [CAR]
    assert unpacked(scene["frames"][0], scene)[0]["prediction"][0].min() == CAR


def test_without_a_mask_what_is_known_counts():
    truth = np.full(EGO.shape, CAR, np.uint8)
    truth[0] = IGNORE
    frame = SceneFrame("s", NO_IMAGES, FrameVolume(np.full(EGO.shape, ROAD, np.uint8)), FrameVolume(truth))
    scene = scene_of(page_of([pack_frame(frame, (), "ego")], EGO, title="t"))
    np.testing.assert_array_equal(unpacked(scene["frames"][0], scene)[1], truth != IGNORE)


def test_no_text_is_taken_for_markup():
    evil = "</script><script>alert(1)</script>{{scene}}&"
    names = (evil,)
    frame = SceneFrame(evil, np.zeros((1, 9, 16, 3), np.uint8), FrameVolume(np.full(EGO.shape, CAR, np.uint8)))
    page = page_of([pack_frame(frame, names, "ego")], EGO, title=evil, camera_names=names)
    assert "<script>alert" not in page and page.count("</script>") == 2
    scene = scene_of(page)
    assert scene["frames"][0]["title"] == scene["cameras"][0] == evil
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{scene}}&amp;") == 2


def test_nothing_is_fetched():
    frame = SceneFrame("s", NO_IMAGES, FrameVolume(np.full(EGO.shape, CAR, np.uint8)))
    page = page_of([pack_frame(frame, (), "ego")], EGO, title="t")
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|src=\"[^\"]|@import|url\(", page)


def test_a_page_of_nothing_or_nowhere_is_refused(tmp_path):
    frame = pack_frame(SceneFrame("s", NO_IMAGES, FrameVolume(np.full(EGO.shape, CAR, np.uint8))), (), "ego")
    with pytest.raises(UserError, match="at least one frame"):
        write_page(tmp_path / "page.html", [], EGO, title="t")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        write_page(tmp_path / "file/page.html", [frame], EGO, title="t")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def street(seed: int) -> np.ndarray:
    """As many occupied voxels as a published label has, 39,000 of 640,000: patchy ground, blocks, ragged trees."""
    rng = np.random.default_rng(seed)
    semantics = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    coarse = rng.integers(0, 5, (20, 20)).repeat(10, 0).repeat(10, 1)
    ground = (np.array([11, 13, 14, 11, FREE], np.uint8))[coarse]
    ground[rng.random(ground.shape) < 0.15] = FREE
    semantics[:, :, 2] = ground
    for _ in range(50):
        x, y = rng.integers(0, 185, 2)
        block = semantics[x : x + 12, y : y + 12, 3 : rng.integers(5, 14)]
        block[rng.random(block.shape) < 0.3] = rng.choice([15, 16, 16, 4])
    return semantics


@pytest.mark.parametrize("has_images", [False, True])
def test_twelve_frames_of_the_full_grid_are_small(has_images):
    # Noise in squares of five pixels: what compresses badly.
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (6, 60, 106, 3), np.uint8)
    images = small.repeat(5, 1).repeat(5, 2) if has_images else NO_IMAGES
    cameras = CAMERAS if has_images else ()
    truth = street(1)
    assert 37_000 < (truth != FREE).sum() < 42_000
    probability = np.clip(rng.normal(0.85, 0.12, truth.shape), 0.06, 1).astype(np.float32)
    frame = SceneFrame(
        "scene-0001, frame 0",
        images,
        FrameVolume(np.roll(truth, 1, 0), probability),
        FrameVolume(truth),
        FrameVolume(np.roll(truth, 1, 1), probability),
        truth != OTHERS,
    )
    packed = pack_frame(frame, cameras, "lidar")
    page = page_of([packed] * 12, SURROUNDOCC_GRID, title="t", camera_names=cameras)
    assert len(page.encode()) <= (2.2e6 if has_images else 1.5e6)
