"""The whole path on two real keyframes: convert the teacher, train, save, resume, evaluate."""

import json
import shutil

import pytest
from real_keyframes import real_config

from occjax.config import Config
from occjax.convert.dump.convert import convert_dump
from occjax.run.train import train
from occjax.system.mesh import make_mesh
from occjax.targets.folder import TeacherFolder


@pytest.fixture
def config(shared_dir, tmp_path) -> Config:
    return real_config(shared_dir, tmp_path)


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
