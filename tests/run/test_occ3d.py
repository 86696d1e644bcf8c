"""Occ3D's labels and grid: every part of the student learns there; and the whole path, scored in two ways.

Train, evaluate with rays, score the saved predictions by themselves.
"""

import functools

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
from occjax.system.mesh import make_mesh, put_batch
from occjax.train.learner import make_learner, random_state
from occjax.train.parts import training_parts
from occjax.train.step import make_train_step

PARTS = ("backbone", "fpn", "depth_net", "view_transform", "bev_encoder", "bev_neck", "head")
# Share of the cross-entropy by which one update of one part lowers it, at least. They lower it by 0.27 % (FPN) to 10 %
# (head); with the gradient cut behind the lift, backbone, FPN and depth net by 0.05 % at most.
LEAST_FALL = 0.001


def occ3d_config(world, shape: tuple[int, int, int]) -> Config:
    """The tiny configuration on the middle of Occ3D's grid, without a teacher."""
    config = tiny_config(world)
    config.data.labels, config.data.teacher_dir = "occ3d", ""
    config.loss.distill = type(config.loss.distill)()
    lower_m = (-shape[0] * 0.2, -shape[1] * 0.2, OCC3D_GRID.lower_m[2])
    config.grid = type(config.grid)("ego", lower_m, OCC3D_GRID.voxel_size_m, shape)
    return config


def test_every_part_of_the_student_lowers_the_loss_of_a_batch_and_together_they_learn_it(world):
    """Two samples, two cameras, nothing at random: the loss of this batch changes by what is learnt, and so only.

    The parts one by one, because each could learn so few samples by heart without the others: with the gradient cut
    behind the lift, cross-entropy falls just as far. It reaches backbone and depth net through the lift alone.
    """
    config = occ3d_config(world, (16, 16, 16))
    config.data.cameras, config.data.batch_size = config.data.cameras[:2], 2
    config.augment, config.model.depth.dropout = AugmentConfig(photometric=False), 0.0
    config.loss = LossConfig(scene_class_affinity=0.0, lovasz=0.0, depth=0.0)
    config.train.learning_rate, config.train.warmup_steps = 3e-3, 0
    mesh = make_mesh(jax.devices()[:1])
    batch = next(make_train_loader(config, load_index(config.data), training_parts(config)))
    assert 0 < batch.labels.camera_mask.mean() < 1
    batch = put_batch(batch, mesh)
    learner = make_learner(config, 20)
    train_step = make_train_step(learner, mesh)

    def update(state):
        # From the host each time: the state that goes in is donated.
        state, metrics = train_step(state, batch)
        return jax.device_get(state), float(metrics["cross_entropy"])

    start = jax.device_get(jax.jit(functools.partial(random_state, learner))())
    state, first = update(start)
    falls = {}
    for part in PARTS:
        student = {**start.params["student"], part: state.params["student"][part]}
        falls[part] = first - update(start._replace(params={**start.params, "student": student}))[1]
    assert {part for part, fall in falls.items() if fall < LEAST_FALL * first} == set(), falls
    for _ in range(8):
        state, last = update(state)
    assert last < 0.5 * first


@pytest.mark.slow
def test_occ3d_trains_evaluates_and_scores_the_same_from_files(world, tmp_path):
    config = occ3d_config(world, OCC3D_GRID.shape)
    config.train.steps, config.train.ema_samples = 4, 2 * config.data.batch_size
    train(config, tmp_path)
    evaluation = evaluate_workdir(config, tmp_path, outputs=Outputs(save_predictions=True, rayiou=True))
    predictions = tmp_path / "eval" / "step-4" / "predictions"
    scores = score_folder(predictions, world, protocols=("occ3d", "rayiou"), split="val")
    found = [s.to_dict() for group in scores.values() for s in group]
    assert found == evaluation.results["protocols"]
    assert [s["mask"] for s in found] == ["camera mask", "no mask", "no mask"] and found[2]["protocol"] == "RayIoU"
    assert evaluation.results["samples"] == 3
