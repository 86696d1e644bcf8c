"""The whole path on Occ3D's labels and grid: train, evaluate with rays, score the saved predictions by themselves."""

import jax
import pytest
from tiny_world import tiny_config

from occjax.config import AugmentConfig, Config, LossConfig
from occjax.data.index import load_index
from occjax.data.pipeline import make_train_loader
from occjax.grid import OCC3D_GRID
from occjax.metrics.folder import score_folder
from occjax.run.evaluate import evaluate_workdir
from occjax.run.scoring import Outputs
from occjax.run.train import train
from occjax.train.learner import initial_state, make_learner
from occjax.train.mesh import make_mesh, put_batch, replicated
from occjax.train.parts import training_parts
from occjax.train.step import make_train_step


def occ3d_config(world, shape: tuple[int, int, int]) -> Config:
    """The tiny configuration on the middle of Occ3D's grid, without a teacher."""
    config = tiny_config(world)
    config.data.labels, config.data.teacher_dir = "occ3d", ""
    config.loss.distill = type(config.loss.distill)()
    lower_m = (-shape[0] * 0.2, -shape[1] * 0.2, OCC3D_GRID.lower_m[2])
    config.grid = type(config.grid)("ego", lower_m, OCC3D_GRID.voxel_size_m, shape)
    return config


def test_the_losses_on_occ3d_fall_as_far_as_every_part_of_the_gradient_takes_them(world):
    """Two samples, two cameras, nothing at random: what falls is learnt, by all of the student or not so far."""
    config = occ3d_config(world, (16, 16, 16))
    config.data.cameras, config.data.batch_size = config.data.cameras[:2], 2
    config.augment = AugmentConfig(photometric=False)
    config.loss = LossConfig(cross_entropy=1.0, depth=1.0, scene_class_affinity=0.0, lovasz=0.0)
    config.train.learning_rate, config.train.warmup_steps = 1e-2, 1
    steps, mesh = 12, make_mesh(jax.devices()[:1])
    batch = next(make_train_loader(config, load_index(config.data), training_parts(config)))
    assert 0 < batch.labels.camera_mask.mean() < 1
    learner = make_learner(config, 2 * steps)
    state, train_step = initial_state(learner, replicated(mesh)), make_train_step(learner, mesh)
    history = []
    for _ in range(steps):
        state, metrics = train_step(state, put_batch(batch, mesh))
        history.append({name: float(metrics[name]) for name in ("cross_entropy", "depth")})
    first, last = history[0], history[-1]
    print(history)
    assert last["cross_entropy"] < 0.6 * first["cross_entropy"]
    assert last["depth"] < 0.8 * first["depth"]


@pytest.mark.slow
def test_occ3d_trains_evaluates_and_scores_the_same_from_files(world, tmp_path):
    config = occ3d_config(world, OCC3D_GRID.shape)
    config.train.steps, config.train.ema_decay = 4, 0.5
    train(config, tmp_path)
    evaluation = evaluate_workdir(config, tmp_path, outputs=Outputs(save_predictions=True, rayiou=True))
    predictions = tmp_path / "eval" / "step-4" / "predictions"
    scores = score_folder(predictions, world, protocols=("occ3d", "rayiou"), split="val")
    found = [s.to_dict() for group in scores.values() for s in group]
    assert found == evaluation.results["protocols"]
    assert [s["mask"] for s in found] == ["camera mask", "no mask", "no mask"] and found[2]["protocol"] == "RayIoU"
    assert evaluation.results["samples"] == 3
