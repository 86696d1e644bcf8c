"""Where the lift puts a point: under a proper rotation of BEV, a moved image, and beside the labels, which turn along.

A rotation with a flip is its own inverse, and so is a flip: only a rotation tells +θ from −θ.
"""

import functools

import jax
import numpy as np
import pytest
from loading import make_config, take, train_loader
from nuscenes_root import write_root
from pinhole import project_points
from small import GRID, make_rig

from occjax.data.index import load_index
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID
from occjax.models.view_transform import lift_cells


@functools.partial(jax.jit, static_argnums=(1, 2, 4))
def cells_of(rig, size, feature_size, depths_m, grid):
    return lift_cells(rig, size, feature_size, depths_m, grid)


def rotation(angle_deg):
    """Counter-clockwise seen from above, for points with x and y to the right and ahead."""
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.float32([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


@pytest.mark.parametrize(("angle_deg", "cell"), [(20, (5, 14)), (-20, (10, 14)), (80, (1, 9)), (-80, (14, 9))])
def test_a_point_ahead_turns_to_the_left_by_a_positive_angle(angle_deg, cell):
    # One camera that looks along y, one feature pixel on its optical axis: the point lies at (0, 7.1) of the grid.
    # Turned by θ it lies at 7.1 (−sin θ, cos θ) = (∓2.43, 6.67) for ±20° and (∓6.99, 1.23) for ±80°; the corner of
    # the cells, of 1 m each, is (−8, −8).
    rig = make_rig((0.0,), size=(16, 16))._replace(augmented_from_grid=rotation(angle_deg)[None])
    (found,) = np.asarray(cells_of(rig, (16, 16), (1, 1), np.float32([7.1]), GRID)).ravel()
    assert divmod(int(found), GRID.shape[1]) == cell


def test_an_image_that_was_moved_is_looked_at_where_it_is_now():
    # Lying on its side, so that rows as well as columns decide where a ray goes on the ground.
    rig = make_rig()
    on_its_side = np.eye(4, dtype=np.float32)
    on_its_side[:2, :2] = [[0, -1], [1, 0]]
    rig = rig._replace(cam_from_grid=on_its_side @ rig.cam_from_grid)
    # Moved by (3, 5) pixels: as if the optical axis had gone there.
    moved, axis_moved = rig.input_from_pixel.copy(), rig.pixel_from_cam.copy()
    moved[..., :2, 2] += [3, 5]
    axis_moved[..., :2, 2] += [3, 5]
    arguments = (32, 48), (8, 12), np.float32([2.5, 5.5]), GRID
    found = np.asarray(cells_of(rig._replace(input_from_pixel=moved), *arguments))
    np.testing.assert_array_equal(found, cells_of(rig._replace(pixel_from_cam=axis_moved), *arguments))
    assert np.mean(found != cells_of(rig, *arguments)) > 0.3


@pytest.fixture(scope="module", params=["surroundocc", "occ3d"])
def scene(request, tmp_path_factory):
    """One keyframe whose labels hold one car, a column of voxels 8 m ahead and 2 m to the left; its place in the grid.

    The axes of the grid are (right, ahead, up) for SurroundOcc and (ahead, left, up) for Occ3D.
    """
    root = write_root(tmp_path_factory.mktemp(request.param) / "nuscenes", scenes={"scene-0061": 1})
    config = make_config(root, labels=request.param, image_height=128, image_width=192)
    if request.param == "surroundocc":
        grid, place = SURROUNDOCC_GRID, (-2.25, 8.25)
        (path,) = (root / "surroundocc/samples").glob("*.npy")
    else:
        grid, place = OCC3D_GRID, (8.2, 2.2)
        (path,) = root.glob("gts/*/*/labels.npz")
    config.grid.frame, config.grid.voxel_size_m = grid.frame, grid.voxel_size_m
    config.grid.lower_m, config.grid.shape = grid.lower_m, grid.shape
    semantics = np.full(grid.shape, 17, np.uint8)
    semantics[*((np.array(place) - grid.lower_m[:2]) // grid.voxel_size_m).astype(int)] = 4
    if request.param == "surroundocc":
        voxels = np.argwhere(semantics == 4)
        np.save(path, np.concatenate([voxels, np.full((len(voxels), 1), 4)], axis=1))
    else:
        np.savez(path, semantics=semantics, mask_camera=semantics == 4, mask_lidar=semantics == 4)
    config.augment.bev_rotate_deg, config.augment.bev_scale = 40.0, (0.9, 1.1)
    config.augment.bev_flip_x = config.augment.bev_flip_y = True
    config.augment.image_scale, config.augment.image_rotate_deg, config.augment.image_flip = (0.9, 1.1), 8.0, True
    return config, load_index(config.data), np.array([*place, 0.5])


def test_what_a_camera_sees_is_lifted_to_where_its_label_lies(scene):
    """Images, rig and labels under image and BEV augmentation: the pixel that shows the car, the cell that holds it."""
    config, index, point_m = scene
    grid, size = config.grid.build(), (config.data.image_height, config.data.image_width)
    checked, turns = 0, set()
    for batch in take(train_loader(config, index), 8):
        semantics, mask = batch.labels.semantics[0], batch.labels.camera_mask
        columns = np.argwhere((semantics == 4).any(-1))
        if mask is not None:  # the mask is of the car alone, and goes with it
            np.testing.assert_array_equal(mask[0], semantics == 4)
        rig = batch.rig
        for n in range(rig.is_present.shape[1]):
            pose, matrix = rig.cam_from_grid[0, n], rig.input_from_pixel[0, n]
            pixel, depth_m = project_points(rig.pixel_from_cam[0, n], pose[:3, :3] @ point_m + pose[:3, 3])
            u, v = (matrix @ [*pixel, 1])[:2]
            if not (0 <= u < size[1] and 0 <= v < size[0]) or not len(columns):
                continue
            # Features of 4×4 pixels: what is lifted is off by less than 0.2 m.
            cells = cells_of(rig, size, (size[0] // 4, size[1] // 4), np.float32([depth_m]), grid)
            found = int(cells[0, n, int(v / 4), int(u / 4), 0])
            assert np.abs(np.divmod(found, grid.shape[1]) - columns).max(axis=1).min() <= 1
            checked += 1
            turns.add(float(np.sign(np.linalg.det(rig.augmented_from_grid[0]))))
    assert checked > 8 and turns == {-1.0, 1.0}
