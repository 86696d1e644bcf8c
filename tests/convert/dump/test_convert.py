"""Whole dumps through the converter: right tokens, refused dumps, damaged files, resuming, every output."""

import json
import pickle

import numpy as np
import pytest
from dump_world import GRID, OPTIONS, World

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit_dump import AuditError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import SurfaceOptions
from occjax.data.index import load_index
from occjax.grid import OCC3D_GRID, GridMismatchError, VoxelGrid
from occjax.targets.codec import floored_log_probs, kl_divergence
from occjax.targets.files import read_teacher
from occjax.targets.folder import TeacherFolder
from occjax.targets.moving import dense_log_probs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("convert") / "nuscenes")


def test_every_sample_gets_its_own_teacher(world, tmp_path):
    lines = []
    result = convert_dump(
        world.dump(tmp_path / "dump"), tmp_path / "out", data_config=world.data, options=OPTIONS, progress=lines.append
    )
    assert (result.written, result.kept, result.failures) == (5, 0, [])
    assert result.audit.problem == "" and result.kl < 1e-3 * 5  # a tenth of these voxels is occupied, not a fiftieth
    folder = TeacherFolder(tmp_path / "out", GRID)
    assert folder.missing(world.dumped) == []
    for token, probs in world.dumped.items():
        dense = dense_log_probs(folder.read(token), GRID.shape)
        wanted = floored_log_probs(np.moveaxis(probs, 0, -1).astype(np.float32))
        assert kl_divergence(wanted, dense).mean() < 5e-3
    manifest = folder.manifest
    assert manifest["matched_by"] == "position" and manifest["value_kind"] == {"probabilities": 5}
    assert manifest["samples"] == 5 and manifest["audit"]["samples"] == 5 and manifest["contents"]["voxels"]
    assert any("true pairing" in line for line in lines) and any("5/5 samples" in line for line in lines)
    assert not list((tmp_path / "out").glob(".*"))


def test_workers_give_the_same_files(world, tmp_path, monkeypatch):
    monkeypatch.setattr("occjax.convert.dump.convert._SAMPLES_PER_WORKER", 2)
    source = world.dump(tmp_path / "dump")
    convert_dump(source, tmp_path / "one", data_config=world.data, options=OPTIONS, audit=False)
    convert_dump(source, tmp_path / "two", data_config=world.data, options=OPTIONS, audit=False, workers=2)
    for token in world.dumped:
        one, two = (read_teacher(tmp_path / name / f"{token}.npz") for name in ("one", "two"))
        np.testing.assert_array_equal(one.codes.voxels.levels, two.codes.voxels.levels)


@pytest.mark.parametrize(
    ("change", "order", "cause"),
    [
        (lambda p: p, [1, 2, 3, 4, 0], "order"),
        (lambda p: p, [1, 0, 3, 2, 4], "order"),
        (lambda p: p.swapaxes(1, 2), None, "x and y swapped"),
        (lambda p: p[:, ::-1], None, "x flipped"),
        (lambda p: p[:, :, ::-1], None, "y flipped"),
        (lambda p: np.roll(p, 1, 1), None, "shifted by [+]1 voxel along x"),
        (lambda p: np.roll(p, -1, 3), None, "shifted by -1 voxel along z"),
    ],
)
def test_misaligned_dumps_are_refused_with_their_cause(world, tmp_path, change, order, cause):
    source = world.dump(tmp_path / "dump", change, order)
    with pytest.raises(AuditError, match=cause):
        convert_dump(source, tmp_path / "out", data_config=world.data, options=OPTIONS)
    assert not (tmp_path / "out").exists()


def test_bev_only_dumps_are_audited_too(world, tmp_path):
    result = convert_dump(
        world.dump(tmp_path / "a", bev=True), tmp_path / "out", data_config=world.data, options=OPTIONS
    )
    assert result.written == 5
    folder = TeacherFolder(tmp_path / "out", GRID)
    assert folder.has_bev and not folder.has_voxels
    assert folder.manifest["value_kind"] == {"max_over_z": 5}
    with pytest.raises(AuditError, match="x flipped.*--bev-flip-x"):
        convert_dump(
            world.dump(tmp_path / "b", lambda p: p[:, ::-1], bev=True),
            tmp_path / "out_b",
            data_config=world.data,
            options=OPTIONS,
        )
    undone = DumpOptions(grid=GRID, surface=SurfaceOptions(bev_flip_x=True))
    assert convert_dump(tmp_path / "b", tmp_path / "out_c", data_config=world.data, options=undone).written == 5


def test_damaged_files_are_listed_and_the_rest_converted(world, tmp_path):
    source = world.dump(tmp_path / "dump")
    files = sorted((source / "occ3d_logits/train").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:5000])
    with_nan = world.dumped[world.samples[1][2]].copy()
    with_nan[3, 4, 5, 6] = np.nan
    np.savez_compressed(files[1], logits=with_nan)
    np.savez_compressed(files[2], logits=with_nan[:17])
    (files[3].with_name("000009_0_3d_logits_fp16.npz")).write_bytes(files[3].read_bytes())
    with pytest.raises(DumpError, match="has 4 samples but the dump has 5"):
        convert_dump(source, tmp_path / "out", data_config=world.data, options=OPTIONS)
    files[3].unlink()
    result = convert_dump(source, tmp_path / "out", data_config=world.data, options=OPTIONS)
    reasons = {path.name[:8]: reason for path, reason in result.failures}
    assert set(reasons) == {"000000_0", "000001_0", "000002_0", "000009_0"}
    assert "cannot be read" in reasons["000000_0"] and "NaN" in reasons["000001_0"]
    assert "is none of" in reasons["000002_0"] and "no position" in reasons["000009_0"]
    assert result.written == 1
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{world.samples[4][2]}.npz", "manifest.json"}


def test_resuming_keeps_what_is_there(world, tmp_path):
    source = world.dump(tmp_path / "dump")
    out = tmp_path / "out"
    first = DumpOptions(grid=GRID, max_samples=1)
    assert convert_dump(source, out, data_config=world.data, options=first, audit=False).written == 2
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    again = DumpOptions(grid=GRID, skip_existing=True)
    (out / "manifest.json").unlink()  # cut off before the end
    result = convert_dump(source, out, data_config=world.data, options=again)
    assert (result.written, result.kept) == (3, 2)
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert TeacherFolder(out, GRID).manifest["samples"] == 5
    for token in world.dumped:
        TeacherFolder(out, GRID).read(token)
    lines = []
    result = convert_dump(source, out, data_config=world.data, options=again, progress=lines.append)
    assert (result.written, result.kept) == (0, 5) and "converted before" in lines[-1]
    with pytest.raises(DumpError, match="another form"):
        convert_dump(source, out, data_config=world.data, options=DumpOptions(grid=GRID, form="dense"))


def test_splits_may_be_converted_one_after_the_other(world, tmp_path):
    source, out = world.dump(tmp_path / "dump"), tmp_path / "out"
    for split, samples in (("train", 4), ("val", 5), ("train", 5)):
        options = DumpOptions(grid=GRID, splits=(split,))
        convert_dump(source, out, data_config=world.data, options=options, audit=False)
        manifest = TeacherFolder(out, GRID).manifest
        assert manifest["samples"] == samples and manifest["value_kind"] == {"probabilities": samples}
    largest = max(len(read_teacher(path).codes.voxels.index) for path in out.glob("*.npz"))
    assert manifest["max_active_voxels"] == largest


def test_what_was_not_measured_is_not_stated(world, tmp_path):
    source = world.dump(tmp_path / "dump")
    result = convert_dump(source, tmp_path / "a", data_config=world.data, options=OPTIONS, audit=False)
    assert result.decode_ms > 0 and "keyframes" in result.report()[0] and len(result.report()) == 3
    options = DumpOptions(grid=GRID, form="dense")
    result = convert_dump(source, tmp_path / "b", data_config=world.data, options=options, audit=False)
    assert result.kl is None and json.loads((tmp_path / "b/manifest.json").read_text())["mean_kl_nats"] is None
    result = convert_dump(
        world.dump(tmp_path / "bev", bev=True), tmp_path / "c", data_config=world.data, options=OPTIONS, audit=False
    )
    assert 0 < result.kl < 1e-2


def test_dense_form_holds_both_logits(world, tmp_path):
    options = DumpOptions(grid=GRID, form="dense")
    convert_dump(world.dump(tmp_path / "d"), tmp_path / "out", data_config=world.data, options=options, audit=False)
    token = world.samples[0][2]
    found = read_teacher(tmp_path / "out" / f"{token}.npz")
    assert found.voxel_logits.shape == (*GRID.shape, NUM_CLASSES) and found.bev_logits.dtype == np.float16
    wanted = floored_log_probs(np.moveaxis(world.dumped[token], 0, -1).astype(np.float32))
    np.testing.assert_allclose(found.voxel_logits, wanted, atol=2e-2)
    p_free = np.exp(wanted[..., FREE]).prod(-1)
    np.testing.assert_allclose(np.exp(found.bev_logits[..., FREE].astype(np.float32)), p_free, atol=2e-3)
    # Dense to compact to dense.
    compact = TeacherFolder(tmp_path / "out", GRID).read(token)
    assert kl_divergence(wanted, dense_log_probs(compact, GRID.shape)).mean() < 5e-3


def test_resampling_to_the_ego_grid_marks_what_is_known(world, tmp_path):
    ego = VoxelGrid("ego", (-8.0, -8.0, -1.0), 0.4, (40, 40, 16))
    options = DumpOptions(grid=GRID, output_grid=ego)
    convert_dump(world.dump(tmp_path / "d"), tmp_path / "out", data_config=world.data, options=options)
    folder = TeacherFolder(tmp_path / "out", ego)
    _, _, token, _ = world.samples[0]
    targets = folder.read(token)
    valid = np.unpackbits(targets.voxels.valid, count=ego.num_voxels).reshape(ego.shape).astype(bool)
    # The LiDAR's grid spans -3 m to 1 m around a sensor 1.8 m up: ego heights up to 2.8 m.
    heights = ego.centers_m()[..., 2]
    np.testing.assert_array_equal(valid, heights < 2.8)
    # 5 m ahead and 2.2 m to the left of the ego is x = -2.2, y = 5 in LIDAR_TOP's axes; the ground is layer 1.
    dense = dense_log_probs(targets, ego.shape)
    (at_ego,), _ = ego.indices_from_points(np.array([[5.0, 2.2, -0.4]]))
    (at_lidar,), _ = GRID.indices_from_points(np.array([[-2.2, 5.0, -2.2]]))
    wanted = world.dumped[token][(slice(None), *at_lidar)].argmax()
    assert dense[tuple(at_ego)].argmax() == wanted != FREE
    with pytest.raises(GridMismatchError, match="ego frame"):
        TeacherFolder(tmp_path / "out", OCC3D_GRID)


def test_info_pickles_give_the_order(world, tmp_path):
    index = load_index(world.data)
    reverse = list(reversed(index.split("train").tokens))
    infos = {"infos": {"s": [{"token": token} for token in reverse]}, "metadata": [("s", i) for i in range(4)]}
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(infos))
    source = world.dump(tmp_path / "dump", order=[3, 2, 1, 0, 4])
    with pytest.raises(AuditError, match="order"):
        convert_dump(source, tmp_path / "out", data_config=world.data, options=OPTIONS)
    options = DumpOptions(grid=GRID, infos=(("train", str(tmp_path / "infos.pkl")),))
    assert convert_dump(source, tmp_path / "out", data_config=world.data, options=options).written == 5
    infos["infos"]["s"][0]["token"] = "stranger"
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(infos))
    with pytest.raises(DumpError, match="1 samples that split train lacks, first stranger"):
        convert_dump(source, tmp_path / "out2", data_config=world.data, options=options)


def test_without_labels_the_user_is_told(world, tmp_path):
    lines = []
    data = DataConfig(root=str(world.root), labels_dir=str(tmp_path))
    convert_dump(world.dump(tmp_path / "d"), tmp_path / "out", data_config=data, options=OPTIONS, progress=lines.append)
    assert any(line.startswith("the dump is not audited: none of its samples has both labels") for line in lines)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["audit"] is None
