import numpy as np
import pytest

from occjax.classes import CLASS_COLORS, FREE, IGNORE, OTHERS
from occjax.drawing.cubes import render_voxels
from occjax.drawing.sheet import draw_sample
from occjax.drawing.style import FREE_COLOR, UNKNOWN_COLOR
from occjax.drawing.top_view import ERROR_COLORS, cost_view, error_view, map_within, top_view
from occjax.grid import OCC3D_GRID, VoxelGrid

CAR, ROAD, PEDESTRIAN = 4, 11, 7
# The floor of the two frames differs by the height of the LiDAR.
EGO = VoxelGrid("ego", (-20.0, -20.0, -1.0), 0.5, (80, 80, 8))
LIDAR = VoxelGrid("lidar", (-20.0, -20.0, -2.84), 0.5, (80, 80, 8))


def scene(forward_m, left_m, frame, background=FREE):
    """A red block of 2 m, centred `forward_m` ahead and `left_m` to the left, 0 to 2 m above the floor."""
    ego = np.full(EGO.shape, background, np.uint8)
    i, j = (int((v + 20) / 0.5) for v in (forward_m, left_m))
    ego[i - 2 : i + 2, j - 2 : j + 2, 2:6] = PEDESTRIAN
    return ego if frame == "ego" else lidar_from_ego(ego)


def lidar_from_ego(ego):
    return ego[:, ::-1].swapaxes(0, 1)


def redness(image):
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    return (red > green + 70) & (red > blue + 70)


def middle_of(mask):
    rows, columns = np.nonzero(mask)
    assert len(rows) > 20
    return rows.mean() / mask.shape[0], columns.mean() / mask.shape[1]


@pytest.mark.parametrize("grid", [EGO, LIDAR], ids=["ego", "lidar"])
@pytest.mark.parametrize(("forward_m", "left_m"), [(12, 0), (-12, 0), (0, 12), (0, -12), (15, -6)])
def test_forward_is_up_and_right_is_right(grid, forward_m, left_m):
    row, column = middle_of(redness(top_view(scene(forward_m, left_m, grid.frame), grid)))
    assert row == pytest.approx(0.5 - forward_m / 40, abs=0.03)
    assert column == pytest.approx(0.5 - left_m / 40, abs=0.03)


@pytest.mark.parametrize("grid", [EGO, LIDAR], ids=["ego", "lidar"])
def test_cubes_ahead_are_higher_and_those_on_the_right_further_right(grid):
    pictures = {at: redness(render_voxels(scene(*at, grid.frame), grid)) for at in ((8, 0), (17, 0), (8, 8), (8, -8))}
    at = {place: middle_of(mask) for place, mask in pictures.items()}
    assert at[17, 0][0] < at[8, 0][0] - 0.05
    assert at[8, 8][1] < 0.4 and at[8, -8][1] > 0.6
    assert at[8, 0][1] == pytest.approx(0.5, abs=0.02)
    assert pictures[8, 0].sum() > pictures[17, 0].sum()


def test_both_frames_give_the_same_view_of_the_same_street():
    rng = np.random.default_rng(0)
    ego = np.full(EGO.shape, FREE, np.uint8)
    ego[:, 20:60, 1] = ROAD
    ego[rng.integers(0, 80, 60), rng.integers(0, 20, 60), 2:6] = CAR
    one, two = render_voxels(ego, EGO), render_voxels(lidar_from_ego(ego), LIDAR)
    # The recording car stands 0.94 m further ahead of the origin in one of them.
    assert np.mean(np.abs(one.astype(int) - two).max(-1) > 12) < 0.02
    assert np.mean(np.abs(one.astype(int) - one[:, ::-1]).max(-1) > 12) > 0.05


def test_near_cubes_hide_far_ones():
    semantics = np.full(EGO.shape, FREE, np.uint8)
    semantics[60, 36:44, 2:4] = PEDESTRIAN
    alone = redness(render_voxels(semantics, EGO)).sum()
    semantics[50:56, 30:50, 2:8] = CAR
    assert redness(render_voxels(semantics, EGO)).sum() < 0.5 * alone


def test_top_view_shows_what_is_highest_and_what_is_unknown():
    grid = VoxelGrid("ego", (10.0, 10.0, 5.0), 1.0, (3, 1, 2))
    semantics = np.array([[[ROAD, CAR]], [[IGNORE, IGNORE]], [[IGNORE, FREE]]], np.uint8)
    image = top_view(semantics, grid, scale=1)[::-1, 0]  # x = 0, 1, 2
    ratio = image[0] / np.maximum(CLASS_COLORS[CAR], 1)
    assert ratio[1] == pytest.approx(ratio[2], abs=0.02) and ratio[1] > 0.6 and image[0, 0] == 0
    assert image[1].tolist() == list(UNKNOWN_COLOR) and image[2].tolist() == list(FREE_COLOR)


@pytest.mark.parametrize("grid", [EGO, LIDAR], ids=["ego", "lidar"])
def test_a_cost_map_is_drawn_forward_up(grid):
    """12 m ahead and 6 m to the left an obstacle, what touches it beside it; behind, nothing is known."""
    values = np.zeros(EGO.shape[:2], np.int8)
    values[:30] = -1
    values[60:64, 50:54] = 99
    values[64, 52] = 100
    picture = cost_view(values if grid.frame == "ego" else values[:, ::-1].T, grid, scale=4)
    assert picture.shape == (320, 320, 3)
    row, column = middle_of(redness(picture))
    assert row == pytest.approx(1 - 62 / 80, abs=0.02) and column == pytest.approx(1 - 52 / 80, abs=0.02)
    assert tuple(picture[300, 200]) == UNKNOWN_COLOR and tuple(picture[150, 30]) == FREE_COLOR
    assert picture[320 - 64 * 4 - 2, 320 - 52 * 4 - 2].min() > 200


def test_error_map_names_each_kind_of_error():
    grid = VoxelGrid("ego", (10.0, 10.0, 5.0), 1.0, (6, 1, 1))
    truth = np.array([CAR, CAR, CAR, FREE, FREE, CAR], np.uint8).reshape(grid.shape)
    prediction = np.array([CAR, ROAD, FREE, CAR, FREE, ROAD], np.uint8).reshape(grid.shape)
    counted = np.array([1, 1, 1, 1, 1, 0], bool).reshape(grid.shape)
    image = error_view(truth, prediction, counted, grid, scale=1)[::-1, 0]
    expected = [ERROR_COLORS[k] for k in ("right", "wrong class", "missed", "invented")]
    assert image.tolist() == [list(c) for c in (*expected, FREE_COLOR, ERROR_COLORS["not counted"])]


def test_a_column_whose_only_occupied_voxels_do_not_count_is_no_free_column():
    grid = VoxelGrid("ego", (10.0, 10.0, 5.0), 1.0, (3, 1, 2))
    truth = np.array([[[OTHERS, FREE]], [[FREE, FREE]], [[OTHERS, CAR]]], np.uint8)
    image = error_view(truth, np.where(truth == OTHERS, np.uint8(ROAD), truth), truth != OTHERS, grid, scale=1)
    expected = [ERROR_COLORS["not counted"], FREE_COLOR, ERROR_COLORS["right"]]
    assert image[::-1, 0].tolist() == [list(c) for c in expected]


@pytest.mark.parametrize("cameras", [0, 1, 4, 6])
@pytest.mark.parametrize("has_teacher", [False, True])
def test_a_page_holds_any_number_of_cameras(cameras, has_teacher):
    names = tuple(f"CAM_{i}" for i in range(cameras))
    images = np.full((cameras, 32, 48, 3), (10, 200, 30), np.uint8)
    truth = scene(8, 4, "ego", background=ROAD)
    page = draw_sample(images, names, truth, truth, truth if has_teacher else None, EGO, title="scene-0001")
    assert page.dtype == np.uint8 and page.shape[1] == 1864
    is_camera = np.all(page == (10, 200, 30), axis=-1).sum()
    assert (is_camera > 100_000 * cameras) if cameras else is_camera == 0
    assert np.all(page == ERROR_COLORS["right"], axis=-1).sum() > 5000


@pytest.mark.parametrize("aspect", [16 / 9, 4 / 3, 1.0, 0.5, 3.0])
def test_images_are_as_wide_as_they_were_recorded_whatever_they_were_squeezed_to(aspect):
    images = np.full((1, 48, 64, 3), (10, 200, 30), np.uint8)
    for aspects, expected in (([aspect], aspect), (None, 64 / 48)):
        page = draw_sample(images, ("CAM",), None, scene(8, 4, "ego"), None, EGO, aspects=aspects)
        is_camera = np.all(page == (10, 200, 30), axis=-1)
        assert is_camera.any(0).sum() / is_camera.any(1).sum() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "room", "expected"),
    [((200, 200), (446, 600), (446, 446)), ((80, 160), (446, 600), (446, 223)), ((160, 40), (446, 600), (150, 600))],
)
def test_maps_fill_the_room_there_is(shape, room, expected):
    grid = VoxelGrid("ego", (10.0, 10.0, 5.0), 1.0, (*shape, 1))
    semantics = np.full(grid.shape, ROAD, np.uint8)
    view = map_within(lambda scale: top_view(semantics, grid, scale=scale), grid, *room)
    assert view.shape == (*expected[::-1], 3)


def test_a_page_without_truth_has_no_error_map():
    page = draw_sample(np.zeros((1, 8, 8, 3), np.uint8), ("CAM_FRONT",), None, scene(8, 4, "ego"), None, EGO)
    assert np.all(page == ERROR_COLORS["right"], axis=-1).sum() == 0


def test_a_page_without_truth_is_filled():
    page = draw_sample(np.zeros((0, 8, 8, 3), np.uint8), (), None, scene(8, 4, "ego"), None, EGO)
    is_page = np.all(page[100:600] == page[0, 0], axis=-1)
    assert is_page.mean(axis=0)[16:-16].min() == 0 and is_page.mean() < 0.05


def test_six_cameras_stand_where_they_look():
    names = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
    images = np.stack([np.full((9, 16, 3), 20 * i + 15, np.uint8) for i in range(6)])
    page = draw_sample(images, names, None, scene(8, 4, "ego"), None, EGO)
    center = {i: middle_of(np.all(page == 20 * i + 15, axis=-1)) for i in range(6)}
    assert center[2][1] < center[0][1] < center[1][1] and center[4][1] < center[3][1] < center[5][1]
    assert center[0][0] < center[3][0]


def test_a_crop_is_looked_at_from_so_near_that_it_fills_the_picture():
    shares = []
    for grid in (EGO, VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.5, (160, 160, 8))):
        ground = np.full(grid.shape, FREE, np.uint8)
        ground[:, :, 1] = PEDESTRIAN
        shares.append(redness(render_voxels(ground, grid, width=320, height=180)).mean())
    assert min(shares) > 0.6 and abs(shares[0] - shares[1]) < 0.15


def test_published_labels_draw_as_a_street(shared_dir):
    with np.load(shared_dir / "data/occ3d_real/labels.npz") as file:
        semantics = file["semantics"]
    above, behind = (
        top_view(semantics, OCC3D_GRID, scale=1),
        render_voxels(semantics, OCC3D_GRID, width=320, height=180),
    )
    for picture, ahead in ((above, np.s_[:100, 95:105]), (behind, np.s_[30:, 150:200])):
        red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
        is_road, is_green = (red > green + 100) & (blue > green + 100), (green > red + 50) & (green > blue + 50)
        # A road ahead of the car, as long as the picture, with trees on the left and other vehicles on the right.
        assert is_road[ahead].mean() > 0.6
        assert is_green[:, : picture.shape[1] // 2].mean() > 0.08
        is_vehicle = (blue > red + 100) & (blue > green + 60) & (green > red)
        assert is_vehicle[:, picture.shape[1] // 2 :].sum() > 50
