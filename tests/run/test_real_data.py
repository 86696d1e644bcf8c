"""The whole path on two real keyframes: convert the teacher, train, save, resume, evaluate."""

import json
import shutil

import pytest

from occjax.config import Config
from occjax.convert.dump.convert import convert_dump
from occjax.run.overrides import load_config_file
from occjax.run.train import train
from occjax.targets.folder import TeacherFolder
from occjax.train.mesh import make_mesh


def shrink(config: Config) -> None:
    """kd.py's recipe with a smaller student, smaller images and the middle of the grid."""
    config.grid.lower_m = (-8.0, -8.0, -5.0)
    config.grid.shape = (32, 32, 16)
    config.data.image_height, config.data.image_width = 64, 96
    config.data.workers = 0
    config.model.backbone.depth = 10
    config.model.backbone.width = 8
    config.model.fpn_channels = 8
    config.model.depth.bins = 8
    config.model.depth.channels = 8
    config.model.view_transform.channels = 8
    config.model.bev_encoder.stage_channels = (8, 8)
    config.model.bev_encoder.blocks_per_stage = 1
    config.model.bev_encoder.neck_channels = 8
    config.model.bev_encoder.out_channels = 8
    config.model.head.channels = 8
    config.model.head.hidden = 16


@pytest.fixture
def config(shared_dir, tmp_path) -> Config:
    config = load_config_file("configs/kd.py")
    config.model.backbone.weights = "random"
    shrink(config)
    config.data.root = str(shared_dir / "data" / "nuscenes_real")
    config.data.index_dir = str(tmp_path / "index")
    config.data.teacher_dir = str(tmp_path / "teacher")
    config.data.batch_size = 1
    config.eval.pictures = 1
    config.train.steps = 3
    config.train.checkpoint_every = 2
    config.train.log_every = 1
    config.train.eval_every = 1000
    return config


@pytest.mark.slow
def test_kd_trains_resumes_and_evaluates_on_real_keyframes(config, shared_dir, tmp_path):
    import jax

    mesh = make_mesh(jax.devices()[:1])
    dump = shared_dir / "data" / "nuscenes_real" / "teacher_dump"
    result = convert_dump(dump, tmp_path / "teacher", data_config=config.data)
    assert (result.written, result.failures) == (2, [])
    assert len(list(TeacherFolder(tmp_path / "teacher", config.grid.build()).directory.glob("*.npz"))) == 2

    workdir = tmp_path / "run"
    train(config, workdir, mesh=mesh)
    # As if the run had been killed after step 2.
    shutil.rmtree(workdir / "checkpoints" / "3")
    evaluation = train(config, workdir, mesh=mesh)

    entries = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries if e["group"] == "train"] == [1, 2, 3]
    assert all(e["voxel_kl"] > 0 and e["depth"] > 0 for e in entries if e["group"] == "train")
    assert evaluation.results["samples"] == 1
    assert (workdir / "eval" / "step-3" / "metrics.json").exists()
    assert len(list((workdir / "eval" / "step-3" / "pictures").glob("*.png"))) == 1
