"""Label files of both sets become dense grids; damaged ones say why."""

import dataclasses
import io
import tracemalloc

import numpy as np
import pytest

from occjax.classes import FREE
from occjax.errors import DataError
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, VoxelGrid
from occjax.label_sets import LABEL_SETS, label_set, label_set_of_grid


def test_sparse_voxels_are_x_y_z_class(tmp_path):
    path = tmp_path / "label.npy"
    np.save(path, np.array([[1, 2, 3, 4], [199, 0, 15, 16], [7, 8, 9, 0]]))
    semantics, mask = label_set("surroundocc").read(path)
    assert semantics.shape == SURROUNDOCC_GRID.shape and semantics.dtype == np.uint8 and mask is None
    assert (semantics[1, 2, 3], semantics[199, 0, 15], semantics[7, 8, 9]) == (4, 16, 0)
    assert np.count_nonzero(semantics != FREE) == 3


def test_no_occupied_voxel_is_all_free(tmp_path):
    path = tmp_path / "label.npy"
    np.save(path, np.zeros((0, 4), np.int64))
    assert np.all(label_set("surroundocc").read(path)[0] == FREE)


def test_occ3d_reads_the_camera_mask(tmp_path):
    path = tmp_path / "labels.npz"
    rng = np.random.default_rng(0)
    semantics, camera, lidar = rng.integers(0, 2, (3, *OCC3D_GRID.shape), np.uint8)
    semantics[camera == 0] = FREE
    np.savez_compressed(path, semantics=semantics, mask_camera=camera, mask_lidar=lidar)
    found, mask = label_set("occ3d").read(path)
    np.testing.assert_array_equal(found, semantics)
    np.testing.assert_array_equal(mask, camera.astype(bool))
    assert mask.dtype == bool


@pytest.mark.parametrize(
    "voxels, message",
    [
        ([[200, 0, 0, 1]], "indices along x must be whole numbers from 0 to 199, but 1 of 1 are not; .* 200 to 200"),
        ([[0, 0, 16, 1]], "indices along z must be whole numbers from 0 to 15"),
        ([[0, -1, 0, 1]], "indices along y must be"),
        ([[0, 0, 0, 18]], "classes .* must be whole numbers from 0 to 17"),
        ([[0, 0, 0, -1], [0, 0, 0, 3]], "1 of 2 are not; the values are from -1 to 3"),
        ([[0, 0, 0.5, 1]], "indices along z"),
        ([[np.nan, 0, 0, 1], [np.inf, 0, 0, 1]], "none finite, 2 of them NaN or infinite"),
        ([["0", "0", "0", "1"]], "expected an array"),
        ([[0, 0, 0]], r"expected an array \[n, 4\]"),
        (np.zeros(OCC3D_GRID.shape, np.uint8), "expected an array"),
    ],
)
def test_bad_sparse_labels(tmp_path, voxels, message):
    path = tmp_path / "label.npy"
    np.save(path, np.array(voxels))
    with pytest.raises(DataError, match=message):
        label_set("surroundocc").read(path)


@pytest.mark.parametrize("name", list(LABEL_SETS))
def test_truncated_files(tmp_path, name):
    path = tmp_path / "label"
    with path.open("wb") as file:
        if name == "occ3d":
            grid = np.random.default_rng(0).integers(0, 17, OCC3D_GRID.shape, np.uint8)
            np.savez_compressed(file, semantics=grid, mask_camera=grid)
        else:
            np.save(file, np.ones((500, 4), np.int64))
    whole = path.read_bytes()
    for keep in (0, 20, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=f"{name} label file"):
            label_set(name).read(path)


def test_wrong_occ3d_content(tmp_path):
    path = tmp_path / "labels.npz"
    np.savez(path, semantics=np.zeros(OCC3D_GRID.shape, np.uint8))
    with pytest.raises(DataError, match="mask_camera"):
        label_set("occ3d").read(path)
    small = np.zeros((2, 2, 2), np.uint8)
    np.savez(path, semantics=small, mask_camera=small)
    with pytest.raises(DataError, match="must have shape"):
        label_set("occ3d").read(path)


def occ3d_file(semantics, mask=None) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, semantics=semantics, mask_camera=np.ones(OCC3D_GRID.shape, np.uint8) if mask is None else mask)
    return stream.getvalue()


def test_occ3d_values_are_whole_and_classes():
    """One rule, whatever their type: what is no class is counted and named, and never wraps around into one."""
    clean = np.random.default_rng(0).integers(0, 18, OCC3D_GRID.shape).astype(np.uint8)
    for kind in (np.int8, np.int64, np.float16, np.float64):
        np.testing.assert_array_equal(LABEL_SETS["occ3d"].decode(occ3d_file(clean.astype(kind)))[0], clean)
    unknown = np.zeros(OCC3D_GRID.shape, bool)
    unknown[3, 4, 5:9] = True
    for value, kind in ((np.nan, float), (-1, int), (-100, int), (-240, int), (255, int), (18, int), (0.5, float)):
        with pytest.raises(DataError, match=r"classes .* from 0 to 17, but 4 of 640000 are not; the values are from"):
            LABEL_SETS["occ3d"].decode(occ3d_file(np.where(unknown, value, clean.astype(kind))))
    with pytest.raises(DataError, match=r"4 of them NaN or infinite"):
        LABEL_SETS["occ3d"].decode(occ3d_file(np.where(unknown, np.inf, clean)))
    for mask in (np.full(OCC3D_GRID.shape, 255, np.uint8), np.full(OCC3D_GRID.shape, np.nan)):
        with pytest.raises(DataError, match="mask_camera: values must be whole numbers from 0 to 1"):
            LABEL_SETS["occ3d"].decode(occ3d_file(clean, mask))


def test_another_class_list_is_recognised_by_having_no_free_voxel():
    clean = np.random.default_rng(0).integers(0, 17, OCC3D_GRID.shape).astype(np.uint8)
    with pytest.raises(DataError, match=r"no voxel is of class 17 \(free\), .* is 16 free here, as in the class list"):
        LABEL_SETS["occ3d"].decode(occ3d_file(clean))


def test_labels_that_would_unpack_to_gigabytes_are_not_unpacked():
    stream = io.BytesIO()
    np.savez_compressed(stream, semantics=np.zeros((2000, 2000, 50), np.uint8), mask_camera=np.zeros(1))
    tracemalloc.start()
    with pytest.raises(DataError, match="says that it has 200000128 bytes, at most 5120000"):
        LABEL_SETS["occ3d"].decode(stream.getvalue())
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_published_layouts(tmp_path):
    where = {"lidar_file": "samples/LIDAR_TOP/a.pcd.bin", "scene_name": "scene-0003", "token": "t"}
    assert label_set("surroundocc").path(tmp_path, **where) == tmp_path / "samples/a.pcd.bin.npy"
    assert label_set("occ3d").path(tmp_path, **where) == tmp_path / "scene-0003/t/labels.npz"
    with pytest.raises(DataError, match="surroundocc, occ3d"):
        label_set("openocc")


def test_the_label_set_of_a_grid_is_the_one_it_fits_then_one_of_its_frame(monkeypatch):
    coarse = dataclasses.replace(
        LABEL_SETS["occ3d"], name="coarse", grid=VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.8, (9, 9, 9))
    )
    monkeypatch.setitem(LABEL_SETS, "coarse", coarse)
    assert label_set_of_grid(VoxelGrid("ego", (-40.0, -40.0, -1.0), 0.8, (3, 3, 3))) == coarse
    assert label_set_of_grid(VoxelGrid("ego", (-4.0, -4.0, -1.0), 0.4, (20, 20, 16))).name == "occ3d"
    assert label_set_of_grid(VoxelGrid("lidar", (-4.0, -4.0, -1.0), 0.3, (20, 20, 16))).name == "surroundocc"
    monkeypatch.setattr("occjax.label_sets.LABEL_SETS", {"occ3d": LABEL_SETS["occ3d"]})
    with pytest.raises(DataError, match="no label set lies in the lidar frame"):
        label_set_of_grid(SURROUNDOCC_GRID)


def test_real_labels(shared_dir):
    semantics, mask = label_set("occ3d").read(shared_dir / "data/occ3d_real/labels.npz")
    assert 0.01 < np.mean(semantics != FREE) < 0.5 and 0 < mask.mean() < 1
