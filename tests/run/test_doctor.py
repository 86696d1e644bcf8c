"""The doctor counts what is there, names what is missing and how to mend it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from nuscenes_root import write_root

from occjax.__main__ import main
from occjax.config import NUSCENES_CAMERAS, Config
from occjax.convert.pack import pack_split
from occjax.data.file_store import FileStore
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.errors import DataError
from occjax.grid import SURROUNDOCC_GRID
from occjax.run.doctor import report
from occjax.storage import write_json
from occjax.targets.files import SparseTeacher, compact_teacher, write_manifest, write_teacher


@pytest.fixture
def config(tmp_path):
    config = Config()
    config.data.root = str(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 7, "scene-0003": 2}))
    config.data.cameras = NUSCENES_CAMERAS[:2]
    return config


def samples(config, pattern):
    return sorted(Path(config.data.root).glob(pattern))


def test_complete_data(config):
    text, is_complete = report(config)
    assert is_complete
    assert "split train: 7 keyframes in 1 scenes" in text and "split val: 2 keyframes in 1 scenes" in text
    for line in ("CAM_FRONT images            7 of 7", "LiDAR sweeps                7 of 7", "occ3d labels "):
        assert line in text
    assert "all that this configuration needs is there" in text and "one file of every kind was decoded" in text
    assert "backbone       random weights" in text


def test_absent_backbone_weights_come_with_the_commands_that_make_them(config, tmp_path):
    weights = tmp_path / "weights" / "resnet50.npz"
    config.model.backbone.weights = str(weights)
    text, is_complete = report(config)
    assert not is_complete and "1 problem:" in text
    for part in ("download.pytorch.org/models/resnet50-0676ba61.pth", f"--output={weights}", "weights=random"):
        assert part in text
    weights.parent.mkdir()
    weights.write_bytes(b"")
    text, is_complete = report(config)
    assert is_complete and f"backbone       {weights}" in text


def test_absent_root(config):
    config.data.root = "/nowhere/at/all"
    text, is_complete = report(config)
    assert not is_complete and "/nowhere/at/all does not exist; set data.root" in text


def test_missing_and_empty_files_are_counted_with_tokens_and_remedy(config):
    removed = samples(config, "samples/CAM_FRONT/scene-0061*")
    for path in removed[:6]:
        path.unlink()
    samples(config, "samples/LIDAR_TOP/scene-0003*")[0].write_bytes(b"")
    for path in samples(config, "surroundocc/samples/*"):
        path.unlink()
    text, is_complete = report(config)
    assert not is_complete and "4 problems" in text
    assert "train: 6 of 7 CAM_FRONT images missing" in text and str(removed[0]) in text
    tokens = next(line for line in text.splitlines() if "tokens:" in line)
    assert tokens.count(",") == 5 and tokens.endswith("...")
    assert "tar -xzf" in text
    assert "val: 1 of 2 LiDAR sweeps empty" in text
    assert "train: 7 of 7 surroundocc labels missing" in text and "data.labels_dir" in text
    assert "CAM_FRONT images            1 of 7" in text and "of about" in text


def test_only_what_the_configuration_needs_is_a_problem(config):
    for path in samples(config, "samples/LIDAR_TOP/*") + samples(config, "gts/*/*/labels.npz"):
        path.unlink()
    config.loss.depth = 0.0
    text, is_complete = report(config)
    assert is_complete and text.count("not needed by this configuration") == 4


def test_unknown_split_and_camera(config):
    config.data.val_split = "valid"
    config.data.cameras = ("CAM_FRONT", "CAM_BACK")
    text, is_complete = report(config)
    assert not is_complete and "split 'valid' has no scene here" in text
    assert "CAM_BACK images        not in the tables" in text
    assert "data.cameras names CAM_BACK, which the tables" in text and "they have CAM_FRONT, CAM_FRONT_RIGHT" in text
    assert "split train: 7 keyframes" in text


def test_distillation_without_a_teacher(config, tmp_path):
    config.loss.distill.voxel_kl = 1.0
    text, is_complete = report(config)
    assert not is_complete and "data.teacher_dir" in text
    config.data.teacher_dir = str(tmp_path / "teacher")
    text, is_complete = report(config)
    assert not is_complete and "manifest" in text and "occjax convert-teacher" in text


def test_damaged_teacher_files_are_found_by_their_directory(config, tmp_path):
    config.data.teacher_dir, config.loss.distill.voxel_kl = str(tmp_path), 1.0
    tokens = {name: load_index(config.data).split(name).tokens for name in ("train", "val")}
    rows = SparseTeacher(np.array([5], np.int32), np.eye(18, dtype=np.float32)[:1], np.eye(18, dtype=np.float32)[17])
    for token in tokens["train"]:
        write_teacher(tmp_path / f"{token}.npz", compact_teacher(token, SURROUNDOCC_GRID, rows))
    write_manifest(
        tmp_path,
        grid=SURROUNDOCC_GRID,
        form="compact",
        samples=7,
        max_active_voxels=1,
        contents={"voxels": True, "bev": False, "validity": False},
        source="test",
        matched_by="token",
        value_kind={},
        details={},
    )
    text, is_complete = report(config)
    assert is_complete and "teacher files               7 of 7" in text
    assert "2 missing (not needed by this configuration)" in text
    broken = tmp_path / f"{tokens['train'][3]}.npz"
    broken.write_bytes(broken.read_bytes()[:-8])
    text, is_complete = report(config)
    assert not is_complete and "train: 1 of 7 teacher files damaged" in text and str(broken) in text
    assert f"mend: delete them, then occjax convert-teacher --input=<dump> --output={tmp_path} " in text


def test_real_root(shared_dir, tmp_path):
    config = Config()
    config.data.root, config.data.index_dir = str(shared_dir / "data/nuscenes_real"), str(tmp_path)
    text, is_complete = report(config)
    assert is_complete and "CAM_BACK_RIGHT images       1 of 1" in text


def test_with_records_nothing_else_is_looked_for(config, tmp_path):
    index = load_index(config.data)
    for split in ("train", "val"):
        pack_split(config, index, split, tmp_path / "records", samples_per_shard=4)
    config.data.records_dir = str(tmp_path / "records")
    for path in samples(config, "samples/*/*"):
        path.unlink()
    text, is_complete = report(config)
    assert is_complete
    assert "records                     7 of 7" in text and "in 2 shards" in text and "images" not in text
    (tmp_path / "records/train-00001-of-00002.json").unlink()
    text, is_complete = report(config)
    assert not is_complete and "lack 3 of 7 samples of split train" in text and "occjax pack" in text
    assert "records                unusable, see below" in text
    config.data.cameras = ("CAM_FRONT", "CAM_BACK")
    assert "into another folder: occjax pack" in report(config)[0]


def test_one_file_of_every_kind_is_decoded_per_split(config, tmp_path):
    """Files of the right size and name that no training could read, and calibration of another resolution."""
    noise = np.random.default_rng(0).normal(0, 20, (300, 4)).astype(np.float32)
    for path in samples(config, "samples/LIDAR_TOP/*"):
        noise.tofile(path)
    for path in samples(config, "samples/CAM_FRONT/*"):
        path.write_bytes(path.read_bytes()[:-40])
    for path in samples(config, "surroundocc/samples/*"):
        np.save(path, np.full((10, 4), -1))
    table = Path(config.data.root) / "v1.0-trainval/sample_data.json"
    rows = json.loads(table.read_text())
    for row in rows:
        if "CAM_FRONT_RIGHT" in row["filename"]:
            row["width"], row["height"] = 480, 320
    table.write_text(json.dumps(rows))
    text, is_complete = report(config)
    assert not is_complete
    for problem in (
        "train: cannot read .*LIDAR_TOP.*: 5 columns of float32",
        "train: cannot read .*CAM_FRONT/.* of sample [0-9a-f]{32}: JPEG is truncated",
        "val: cannot read .*CAM_FRONT/.*: JPEG is truncated",
        "train: cannot read .*surroundocc/.*: indices along x must be whole numbers",
        "CAM_FRONT_RIGHT: fx 60, fy 60 and principal point 48, 32 do not belong to images of 480×320: .* times 5 would",
    ):
        assert re.search(problem, text), problem
    assert "samples/LIDAR_TOP" not in "".join(line for line in text.splitlines() if " val: " in line)


def test_one_broken_link_is_one_file(config):
    for path in samples(config, "samples/CAM_FRONT/*"):
        path.rename(path.with_suffix(".moved"))
        path.symlink_to(path.with_suffix(".moved").name)
    assert report(config)[1]
    broken = samples(config, "samples/CAM_FRONT/scene-0061*.jpg")[2]
    broken.with_suffix(".moved").unlink()
    text, is_complete = report(config)
    assert not is_complete and "1 problem:" in text and "train: 1 of 7 CAM_FRONT images missing" in text
    assert f"first: {broken}, a link to {broken.with_suffix('.moved').name}, which is not there" in text
    index = load_index(config.data)
    with pytest.raises(DataError, match="1 of 7 CAM_FRONT images, .*a link to .*, which is not there"):
        FileStore(config.data, index.split("train"), Parts()).require_complete()


def test_the_run_of_a_workdir_that_is_named_is_looked_at(config, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run/config.json", {"config": config.to_dict()})
    assert main(["--mode=doctor", f"--workdir={tmp_path}/run"]) == 0
    assert config.data.root in capsys.readouterr().out
