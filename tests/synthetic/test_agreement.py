"""Images, LiDAR, labels, masks, boxes and tables of a generated world describe the same scene."""

import cv2
import numpy as np
import pytest
from nuscenes.utils.geometry_utils import points_in_box
from pinhole import project_points

from occjax.config import NUSCENES_CAMERAS
from occjax.geometry import invert_rigid, transform_from_pose, transform_points
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, resample_labels
from occjax.synthetic.render import see
from occjax.synthetic.shapes import corners_m


def lidar_in_camera(world, sample, channel):
    """Pixels [n, 2] and depth [n] of the sweep in a camera, through the tables."""
    camera = sample["data"][channel]
    cam_from_lidar = invert_rigid(world.global_from_sensor(camera)) @ world.global_from_sensor(
        sample["data"]["LIDAR_TOP"]
    )
    mount = world.nusc.get("calibrated_sensor", world.nusc.get("sample_data", camera)["calibrated_sensor_token"])
    lens = np.array(mount["camera_intrinsic"])
    return *project_points(lens, transform_points(cam_from_lidar, world.lidar_points(sample)[:, :3])), lens


@pytest.mark.parametrize("channel", NUSCENES_CAMERAS)
def test_lidar_lands_on_the_surfaces_that_the_camera_sees(world, channel):
    width, height = world.config.image_width, world.config.image_height
    agree = total = 0
    for sample in world.nusc.sample:
        scene = world.nusc.get("scene", sample["scene_token"])
        city = world.city(scene["name"])
        data = world.nusc.get("sample_data", sample["data"][channel])
        pixels, depth, lens = lidar_in_camera(world, sample, channel)
        time_s = (data["timestamp"] - world.nusc.get("sample", scene["first_sample_token"])["timestamp"]) * 1e-6 + 0.5
        pose = invert_rigid(city.global_from_city) @ world.global_from_sensor(data["token"])
        hits, _ = see(city.parts_at(time_s), city.ground, pose, lens, width, height)
        inside = (depth > 1) & np.all((pixels >= 0) & (pixels < (width, height)), axis=1)
        column, row = pixels[inside].astype(int).T
        seen, depth = hits.distance[row, column], depth[inside]
        # The LiDAR looks over things that hide a surface from the camera; nothing it hits may float before one.
        unhidden = depth < seen * 1.03 + 0.3
        agree += np.sum(np.abs(seen - depth)[unhidden] < 0.3 + 0.1 * depth[unhidden])
        total += np.sum(unhidden)
        assert unhidden.mean() > 0.75
    assert total > 500
    assert agree / total > 0.97


def test_images_show_what_the_geometry_says(world):
    """Pixels of sky are brighter and bluer than pixels of road; a mirrored or swapped image would not know."""
    sample = world.nusc.sample[0]
    city = world.city(world.nusc.get("scene", sample["scene_token"])["name"])
    for channel in NUSCENES_CAMERAS:
        data = world.nusc.get("sample_data", sample["data"][channel])
        image = cv2.imread(str(world.root / data["filename"])).astype(float)
        assert image.shape == (world.config.image_height, world.config.image_width, 3)
        _, _, lens = lidar_in_camera(world, sample, channel)
        pose = invert_rigid(city.global_from_city) @ world.global_from_sensor(data["token"])
        hits, _ = see(city.parts_at(0.5), city.ground, pose, lens, image.shape[1], image.shape[0])
        edges = np.hypot(cv2.Sobel(image[..., 1], -1, 1, 0), cv2.Sobel(image[..., 1], -1, 0, 1))
        borders = cv2.morphologyEx((hits.part + 3).astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
        if borders.mean() > 0.01:
            right, mirrored = edges[borders].mean(), edges[borders[:, ::-1]].mean()
            assert right > 1.1 * mirrored and right > 1.5 * edges[~borders].mean()


@pytest.mark.parametrize("kind", ["surroundocc", "occ3d"])
def test_lidar_points_lie_in_occupied_voxels(world, kind):
    for sample in world.nusc.sample:
        points = world.lidar_points(sample)[:, :3].astype(float)
        if kind == "surroundocc":
            grid, labels = SURROUNDOCC_GRID, world.surroundocc(sample)
        else:
            grid, labels = OCC3D_GRID, world.occ3d(sample)["semantics"]
            lidar = world.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            mount = world.nusc.get("calibrated_sensor", lidar["calibrated_sensor_token"])
            pose = world.nusc.get("ego_pose", lidar["ego_pose_token"])
            assert pose["timestamp"] == sample["timestamp"] and mount["translation"][2] > 1.5
            points = transform_points(_pose(mount), points)
        index, inside = grid.indices_from_points(points)
        hit = labels[tuple(index[inside].T)]
        assert (hit != 17).mean() > 0.98
        shifted = np.clip(index[inside] + (1, 0, 0), 0, 199)
        flipped = index[inside] * (-1, 1, 1) + (199, 0, 0)
        swapped = index[inside][:, [1, 0, 2]]
        for wrong in (shifted, flipped, swapped):
            assert (labels[tuple(wrong.T)] == hit).mean() < 0.97


def _pose(record):
    return transform_from_pose(record["rotation"], record["translation"])


def test_both_label_sets_tell_the_same_story(world):
    for sample in world.nusc.sample:
        mount = world.nusc.get(
            "calibrated_sensor",
            world.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["calibrated_sensor_token"],
        )
        semantics = world.occ3d(sample)["semantics"]
        resampled = resample_labels(
            world.surroundocc(sample), SURROUNDOCC_GRID, OCC3D_GRID, invert_rigid(_pose(mount)), outside=255
        )
        both = (resampled != 255) & (semantics != 17) & (resampled != 17)
        assert (resampled == semantics)[both].mean() > 0.93
        known = resampled != 255
        assert (resampled == semantics)[known].mean() > 0.9
        assert (resampled.swapaxes(0, 1) == semantics)[both].mean() < 0.8


def test_most_classes_occur(world):
    seen = np.zeros(18, bool)
    for sample in world.nusc.sample:
        semantics = world.occ3d(sample)["semantics"]
        assert semantics.shape == (200, 200, 16) and semantics.dtype == np.uint8 and semantics.max() == 17
        seen[np.unique(semantics)] = True
    assert seen.sum() >= 15


def test_boxes_hold_their_points(world):
    nusc = world.nusc
    for sample in nusc.sample:
        points = world.lidar_points(sample)[:, :3].T
        _, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        inside, counted = [], []
        for box in boxes:
            record = nusc.get("sample_annotation", box.token)
            inside.append(points_in_box(box, points, wlh_factor=1.03).sum())
            counted.append(record["num_lidar_pts"])
        inside, counted = np.array(inside), np.array(counted)
        assert counted.sum() > 300
        # The noise of the range moves a few points out; the ground under a box adds a few.
        assert np.abs(inside - counted).sum() < 0.12 * counted.sum()
        assert np.corrcoef(inside, counted)[0, 1] > 0.99


def test_movers_move_steadily_and_the_parked_stay(world):
    nusc = world.nusc
    moving = 0
    for instance in nusc.instance:
        first = nusc.get("sample_annotation", instance["first_annotation_token"])
        if not first["next"]:
            continue
        second = nusc.get("sample_annotation", first["next"])
        step = np.subtract(second["translation"], first["translation"])
        attributes = [nusc.get("attribute", t)["name"] for t in first["attribute_tokens"]]
        assert np.linalg.norm(step) < 6 and abs(step[2]) < 1e-9
        if np.linalg.norm(step) > 0.01:
            moving += 1
            forward = _pose(first)[:2, 0]
            assert step[:2] @ forward == pytest.approx(np.linalg.norm(step), rel=1e-6)
        if any(a in ("vehicle.parked", "pedestrian.standing") for a in attributes):
            assert np.linalg.norm(step) < 1e-9
    assert moving > 5


def brute_force_visible(semantics, origin, target):
    """Whether the straight line from a camera to a voxel's centre meets no other occupied voxel (ego frame, metres)."""
    steps = np.linspace(0, 1, int(np.linalg.norm(target - origin) / 0.05) + 2)[:, None]
    index, inside = OCC3D_GRID.indices_from_points(origin + steps * (target - origin))
    own = index[-1]
    others = inside & np.any(index != own, axis=1)
    return not np.any(semantics[tuple(index[others].T)] != 17)


def test_camera_mask_is_visibility(world):
    """Against lines through the label grid, for surfaces well in front of or well behind others."""
    sample = world.nusc.sample[0]
    labels = world.occ3d(sample)
    lidar = world.global_from_sensor(sample["data"]["LIDAR_TOP"])
    mount = world.nusc.get(
        "calibrated_sensor", world.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["calibrated_sensor_token"]
    )
    global_from_ego = lidar @ invert_rigid(_pose(mount))
    rng = np.random.default_rng(0)
    occupied = np.argwhere(labels["semantics"] != 17)
    chosen = occupied[rng.permutation(len(occupied))[:600]]
    agree = []
    for voxel in chosen:
        center = np.array(OCC3D_GRID.lower_m) + (voxel + 0.5) * 0.4
        visible = False
        for channel in NUSCENES_CAMERAS:
            ego_from_cam = invert_rigid(global_from_ego) @ world.global_from_sensor(sample["data"][channel])
            record = world.nusc.get("sample_data", sample["data"][channel])
            lens = world.nusc.get("calibrated_sensor", record["calibrated_sensor_token"])["camera_intrinsic"]
            pixel, depth = project_points(np.array(lens), transform_points(invert_rigid(ego_from_cam), center))
            in_image = depth > 0.1 and np.all((pixel >= 0) & (pixel < (record["width"], record["height"])))
            visible |= bool(in_image) and brute_force_visible(labels["semantics"], ego_from_cam[:3, 3], center)
        agree.append(visible <= bool(labels["mask_camera"][tuple(voxel)]))
    # A straight line to the centre is a stricter test than seeing some of the voxel: what it sees, the mask must hold.
    assert np.mean(agree) > 0.97
    hidden = labels["mask_camera"][tuple(occupied.T)] == 0
    assert 0.1 < hidden.mean() < 0.9


def test_lidar_mask_holds_every_return(world):
    for sample in world.nusc.sample:
        labels = world.occ3d(sample)
        lidar = world.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        mount = world.nusc.get("calibrated_sensor", lidar["calibrated_sensor_token"])
        points = transform_points(_pose(mount), world.lidar_points(sample)[:, :3].astype(float))
        index, inside = OCC3D_GRID.indices_from_points(points)
        assert labels["mask_lidar"][tuple(index[inside].T)].all()
        free_seen = (labels["mask_lidar"] == 1) & (labels["semantics"] == 17)
        assert free_seen.sum() > 1000
        assert set(np.unique(labels["mask_lidar"])) == set(np.unique(labels["mask_camera"])) == {0, 1}


def test_things_keep_apart(world):
    """No parked or moving object stands inside another, nor in the ego's way."""
    for scene in world.nusc.scene:
        city = world.city(scene["name"])
        for time_s in (0.5, 1.0):
            parts = city.parts_at(time_s)
            body = np.array([t.name not in ("vegetation", "manmade") for t in city.things])[parts.owner]
            ego = invert_rigid(city.city_from_ego(time_s))
            local = transform_points(ego, corners_m(parts.take(body)).mean(axis=1))
            assert not np.any((np.abs(local[:, 0] - 1.3) < 2.0) & (np.abs(local[:, 1]) < 0.9))
