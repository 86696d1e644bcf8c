"""Folders of teacher files: read back as written, and checked against names, grids and manifests."""

import json
import subprocess
import sys

import numpy as np
import pytest
from teacher_folder import GRID, probabilities, write_folder

from occjax.config import DataConfig
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.targets.codec import floored_log_probs, kl_divergence
from occjax.targets.commands import completing_command
from occjax.targets.files import (
    TeacherFileError,
    compact_teacher,
    sparse_from_probabilities,
    write_manifest,
    write_teacher,
)
from occjax.targets.folder import TeacherFolder, read_manifest
from occjax.targets.moving import dense_log_probs


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_folder_gives_back_what_was_written(tmp_path, form):
    folder = TeacherFolder(write_folder(tmp_path / "t", form=form), GRID)
    targets = folder.read("b")
    dense = dense_log_probs(targets, GRID.shape)
    assert kl_divergence(floored_log_probs(probabilities(1)), dense).mean() < 2e-3
    # Classes within one level of the likeliest may tie with it.
    likeliest = np.take_along_axis(dense, probabilities(1).argmax(-1)[..., None], -1)[..., 0]
    assert (dense.max(-1) - likeliest).max() < 0.2
    assert targets.voxels.index.dtype == np.int32 and len(targets.voxels.index) == folder.capacity
    assert targets.voxels.valid is None and targets.bev is None
    assert folder.missing(["b", "x", "a", "y"]) == ["x", "y"]
    shapes = [None if v is None else (v.shape, v.dtype) for v in folder.read("a").voxels]
    assert shapes == [None if v is None else (v.shape, v.dtype) for v in targets.voxels]


def test_swapped_files_are_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "a.npz").rename(tmp_path / "c.npz")
    with pytest.raises(TeacherFileError, match="written for sample a"):
        TeacherFolder(tmp_path, GRID).read("c")


def test_absent_and_half_written_files_name_file_and_sample(tmp_path):
    write_folder(tmp_path)
    folder = TeacherFolder(tmp_path, GRID, data=DataConfig(root="root"))
    command = f"occjax convert-teacher --input=<dump> --output={tmp_path} --data-root=root --skip-existing"
    with pytest.raises(TeacherFileError, match=command):
        folder.read("x")
    whole = (tmp_path / "a.npz").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 8):
        (tmp_path / "a.npz").write_bytes(whole[:cut])
        with pytest.raises(TeacherFileError, match=r"a\.npz of sample a") as caught:
            folder.read("a")
        assert f"delete it and run {command}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("classes", ["free"]), ("version", 99), ("temperature", 2.0), ("schema", "other")]
)
def test_a_manifest_of_something_else_is_refused(tmp_path, field, value):
    write_folder(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(TeacherFileError, match=field):
        read_manifest(tmp_path)


def test_manifest_absent_damaged_or_incomplete(tmp_path):
    with pytest.raises(TeacherFileError, match="no teacher manifest"):
        TeacherFolder(tmp_path, GRID)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(TeacherFileError, match="cannot be read"):
        TeacherFolder(tmp_path, GRID)
    write_folder(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["contents"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TeacherFileError, match="lacks contents"):
        TeacherFolder(tmp_path, GRID)


def test_grids_must_match(tmp_path):
    write_folder(tmp_path)
    data = DataConfig(root="my root", version="v1.0-mini")
    with pytest.raises(GridMismatchError, match="ego frame") as caught:
        TeacherFolder(tmp_path, VoxelGrid("ego", GRID.lower_m, 0.5, GRID.shape), data=data)
    assert str(caught.value).startswith(f"the teacher files in {tmp_path} ")
    assert str(caught.value).endswith(
        ": occjax convert-teacher --input=<dump> --output=<another folder> --data-root='my root' "
        "--version=v1.0-mini --grid=occ3d"
    )
    with pytest.raises(GridMismatchError, match="no aligned crop") as caught:
        TeacherFolder(tmp_path, VoxelGrid("lidar", (-2.25, -1.5, -1.0), 0.5, GRID.shape))
    assert "--grid" not in str(caught.value)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["grid"]["lower_m"] = [-2.5, -1.5, -1.0]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    shifted = VoxelGrid("lidar", (-2.5, -1.5, -1.0), 0.5, GRID.shape)
    with pytest.raises(GridMismatchError, match="expected"):
        TeacherFolder(tmp_path, shifted).read("a")


def test_more_rows_than_the_manifest_allows_is_an_error_not_a_silent_drop(tmp_path):
    write_folder(tmp_path, capacity=0)
    with pytest.raises(TeacherFileError, match="active voxels"):
        TeacherFolder(tmp_path, GRID).read("a")


def test_contents_must_be_what_the_manifest_says(tmp_path):
    write_folder(tmp_path)
    probs = probabilities()
    write_teacher(tmp_path / "a.npz", compact_teacher("a", GRID, None, probs[:, :, 0]))
    with pytest.raises(TeacherFileError, match="manifest says"):
        TeacherFolder(tmp_path, GRID).read("a")


@pytest.mark.parametrize(
    ("grid", "is_resampled", "option"),
    [
        (SURROUNDOCC_GRID, False, "root --skip"),
        (OCC3D_GRID, False, "root --source-grid=occ3d --skip"),
        (OCC3D_GRID, True, "root --grid=occ3d --skip"),
        (SURROUNDOCC_GRID, True, "root --grid=surroundocc --skip"),
    ],
)
def test_the_command_that_completes_a_folder_keeps_its_grid(grid, is_resampled, option):
    assert option in completing_command(DataConfig(root="root"), "out", grid, is_resampled=is_resampled)


def test_reading_needs_no_jax():
    code = "import sys, occjax.targets.folder; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_real_dump_fits_size_and_loss(shared_dir, tmp_path):
    grid = SURROUNDOCC_GRID
    path = shared_dir / "data/nuscenes_real/teacher_dump/occ3d_logits/train/000000_0_3d_logits_fp16.npz"
    with np.load(path) as file:
        probs = np.moveaxis(file["logits"], 0, -1).astype(np.float32)
    compact = compact_teacher("t", grid, sparse_from_probabilities(probs))
    assert write_teacher(tmp_path / "t.npz", compact) < 700_000
    write_manifest(
        tmp_path,
        grid=grid,
        form="compact",
        samples=1,
        max_active_voxels=len(compact.codes.voxels.index),
        contents={"voxels": True, "bev": False, "validity": False},
        source="",
        matched_by="",
        value_kind={},
        details={},
    )
    targets = TeacherFolder(tmp_path, grid).read("t")
    assert sum(v.nbytes for v in targets.voxels if v is not None) < 1_800_000
    assert kl_divergence(floored_log_probs(probs), dense_log_probs(targets, grid.shape)).mean() < 1e-3
