"""Teacher files: written, read back, checked against names, grids and manifests, moved with crops and flips."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DataConfig
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID, GridMismatchError, VoxelGrid
from occjax.grid_map import VoxelSource, voxel_source
from occjax.targets.codec import floored_log_probs, kl_divergence
from occjax.targets.commands import completing_command
from occjax.targets.files import (
    DenseTeacher,
    TeacherFileError,
    compact_teacher,
    prune,
    read_teacher,
    sparse_from_probabilities,
    write_manifest,
    write_teacher,
)
from occjax.targets.folder import TeacherFolder, read_manifest
from occjax.targets.moving import dense_log_probs, gather_teacher

GRID = VoxelGrid("lidar", (-2.0, -1.5, -1.0), 0.5, (8, 6, 4))


def probabilities(seed=0, occupied=0.3):
    r = np.random.default_rng(seed)
    probs = np.zeros((*GRID.shape, NUM_CLASSES), np.float32)
    probs[..., FREE] = 1
    index = r.random(GRID.shape) < occupied
    probs[index] = r.dirichlet(np.full(NUM_CLASSES, 0.5), index.sum())
    return probs


def write_folder(folder, tokens=("a", "b"), form="compact", bev_only=False, valid=None, capacity=None):
    folder.mkdir(exist_ok=True)
    largest = 0
    for seed, token in enumerate(tokens):
        probs = probabilities(seed)
        sparse = sparse_from_probabilities(probs)
        largest = max(largest, len(sparse.index))
        if bev_only:
            teacher = compact_teacher(token, GRID, None, probs[:, :, 0])
        elif form == "dense":
            logits = floored_log_probs(probs).astype(np.float16)
            teacher = DenseTeacher(token, GRID, logits, logits[:, :, 0], valid)
        else:
            teacher = compact_teacher(token, GRID, sparse, None, valid)
        write_teacher(folder / f"{token}.npz", teacher)
    write_manifest(
        folder,
        grid=GRID,
        form=form,
        samples=len(tokens),
        max_active_voxels=largest if capacity is None else capacity,
        contents={"voxels": not bev_only, "bev": bev_only, "validity": valid is not None},
        source="test",
        matched_by="token",
        value_kind={"probabilities": len(tokens)},
        details={},
    )
    return folder


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_folder_gives_back_what_was_written(tmp_path, form):
    folder = TeacherFolder(write_folder(tmp_path / "t", form=form), GRID)
    targets = folder.read("b")
    dense = dense_log_probs(targets, GRID.shape)
    assert kl_divergence(floored_log_probs(probabilities(1)), dense).mean() < 2e-3
    # Classes within one level of the likeliest may tie with it.
    likeliest = np.take_along_axis(dense, probabilities(1).argmax(-1)[..., None], -1)[..., 0]
    assert (dense.max(-1) - likeliest).max() < 0.2
    assert targets.index.dtype == np.int32 and len(targets.index) == folder.capacity
    assert targets.valid is None and targets.bev_free is None
    assert folder.missing(["b", "x", "a", "y"]) == ["x", "y"]
    shapes = [None if v is None else (v.shape, v.dtype) for v in folder.read("a")]
    assert shapes == [None if v is None else (v.shape, v.dtype) for v in targets]


def test_a_dense_file_is_float16_channel_last_with_token_and_grid(tmp_path):
    write_folder(tmp_path, form="dense")
    with np.load(tmp_path / "a.npz") as file:
        assert file["voxel_logits"].dtype == np.float16 and file["voxel_logits"].shape == (*GRID.shape, NUM_CLASSES)
        assert file["bev_logits"].shape == (*GRID.shape[:2], NUM_CLASSES)
        np.testing.assert_allclose(np.exp(file["voxel_logits"].astype(np.float32)).sum(-1), 1, atol=4e-3)
    found = read_teacher(tmp_path / "a.npz")
    assert (found.token, found.grid) == ("a", GRID)


def test_swapped_files_are_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "a.npz").rename(tmp_path / "c.npz")
    with pytest.raises(TeacherFileError, match="written for sample a"):
        TeacherFolder(tmp_path, GRID).read("c")


def test_absent_and_half_written_files_name_file_and_sample(tmp_path):
    write_folder(tmp_path)
    folder = TeacherFolder(tmp_path, GRID, data=DataConfig(root="root"))
    command = f"python converters/teacher_to_npz.py --input=<dump> --output={tmp_path} --data-root=root --skip-existing"
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
        ": python converters/teacher_to_npz.py --input=<dump> --output=<another folder> --data-root='my root' "
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


def test_bev_only_folder(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path, bev_only=True), GRID).read("a")
    assert targets.index is None and targets.bev_free.shape == GRID.shape[:2]
    flipped = gather_teacher(targets, flip_x(GRID), GRID)
    np.testing.assert_array_equal(flipped.bev_free, targets.bev_free[::-1])
    np.testing.assert_array_equal(flipped.bev_levels, targets.bev_levels[::-1])
    assert np.unpackbits(flipped.bev_valid, count=48).all()


def flip_x(grid):
    return voxel_source(grid, grid, np.diag([-1.0, 1.0, 1.0]))


def test_flips_and_crops_move_every_row(tmp_path):
    folder = TeacherFolder(write_folder(tmp_path), GRID)
    targets = folder.read("a")
    dense = dense_log_probs(targets, GRID.shape)
    flipped = gather_teacher(targets, flip_x(GRID), GRID)
    np.testing.assert_array_equal(dense_log_probs(flipped, GRID.shape), dense[::-1])
    assert np.unpackbits(flipped.valid, count=GRID.num_voxels).all()

    inner = VoxelGrid("lidar", (-1.0, -1.0, -0.5), 0.5, (4, 3, 2))
    source = voxel_source(GRID, inner, np.eye(3))
    cropped = gather_teacher(targets, source, GRID)
    np.testing.assert_array_equal(dense_log_probs(cropped, inner.shape), dense[2:6, 1:4, 1:3])
    assert len(cropped.index) == min(folder.capacity, inner.num_voxels)


def test_what_moves_in_from_outside_is_not_valid(tmp_path):
    valid = np.random.default_rng(0).random(GRID.shape) < 0.5
    valid[0] = True
    probs_valid = valid  # rows of invalid voxels do not exist in resampled files; here they are merely marked
    targets = TeacherFolder(write_folder(tmp_path, valid=probs_valid), GRID).read("a")
    columns = np.arange(48, dtype=np.int32).reshape(8, 6)
    shifted = np.full_like(columns, -1)
    shifted[1:] = columns[:-1]
    moved = gather_teacher(targets, VoxelSource(shifted, np.array([-1, 0, 1, 2], np.int32)), GRID)
    known = np.unpackbits(moved.valid, count=GRID.num_voxels).reshape(GRID.shape).astype(bool)
    assert not known[0].any() and not known[:, :, 0].any()
    np.testing.assert_array_equal(known[1:, :, 1:], valid[:-1, :, :-1])
    dense, found = dense_log_probs(targets, GRID.shape), dense_log_probs(moved, GRID.shape)
    np.testing.assert_array_equal(found[1:, :, 1:], dense[:-1, :, :-1])
    np.testing.assert_array_equal(found[0], np.broadcast_to(targets.background, found[0].shape))


def test_enlarging_beyond_capacity_is_an_error(tmp_path):
    targets = TeacherFolder(write_folder(tmp_path), GRID).read("a")
    targets = targets._replace(index=targets.index[:80], free=targets.free[:80], levels=targets.levels[:80])
    column, layer = divmod(int(targets.index[0]), 4)
    everywhere = VoxelSource(np.full((8, 6), column, np.int32), np.full(4, layer, np.int32))
    with pytest.raises(TeacherFileError, match="capacity_factor"):
        gather_teacher(targets, everywhere, GRID)


def test_pruning_keeps_the_mean_of_what_it_folds_and_the_budget():
    r = np.random.default_rng(0)
    probs = np.zeros((20000, NUM_CLASSES), np.float32)
    probs[:, 3] = r.choice([0.0, 0.0015, 0.004, 0.5], len(probs), p=[0.9, 0.04, 0.03, 0.03])
    probs[:, FREE] = 1 - probs[:, 3]
    sparse = prune(sparse_from_probabilities(probs), len(probs))
    folded = np.setdiff1d(np.arange(len(probs)), sparse.index)
    np.testing.assert_allclose(sparse.background, probs[folded].mean(0), rtol=1e-3, atol=1e-7)
    assert np.isin(np.flatnonzero(probs[:, 3] == 0.5), sparse.index).all()
    kl = kl_divergence(floored_log_probs(probs[folded]), floored_log_probs(sparse.background)).sum() / len(probs)
    assert kl < 1e-3


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def savez(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="no space"):
        write_teacher(tmp_path / "a.npz", compact_teacher("a", GRID, sparse_from_probabilities(probabilities())))
    assert list(tmp_path.iterdir()) == []


def test_files_are_plain_and_those_that_were_compressed_are_still_read(tmp_path):
    folder = TeacherFolder(write_folder(tmp_path), GRID)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        arrays = dict(file)
        assert all(info.compress_type == zipfile.ZIP_STORED for info in file.zip.infolist())
    assert arrays["levels"].shape[0] == 9 and json.loads(str(arrays["meta"]))["token"] == "a"
    plain = folder.read("a")
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    for before, now in zip(plain, folder.read("a"), strict=True):
        np.testing.assert_array_equal(before, now)


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
        max_active_voxels=len(compact.free),
        contents={"voxels": True, "bev": False, "validity": False},
        source="",
        matched_by="",
        value_kind={},
        details={},
    )
    targets = TeacherFolder(tmp_path, grid).read("t")
    assert sum(v.nbytes for v in targets if v is not None) < 1_800_000
    assert kl_divergence(floored_log_probs(probs), dense_log_probs(targets, grid.shape)).mean() < 1e-3
