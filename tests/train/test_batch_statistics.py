"""At batch 1 no layer meets other statistics in evaluation than in training: both give the same losses."""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from real_keyframes import real_config
from tiny_world import tiny_config

from occjax.configs.supervised import without_teacher
from occjax.data.index import load_index
from occjax.data.pipeline import make_eval_loader, make_train_loader
from occjax.losses.total import weighted_sum
from occjax.models.layers import EPSILON, RUNNING_DECAY
from occjax.models.preprocess import normalize_images
from occjax.models.student import apply_student
from occjax.system.mesh import make_mesh, put_batch, replicated
from occjax.train.learner import initial_state, make_learner
from occjax.train.objective import supervised
from occjax.train.parts import training_parts
from occjax.train.step import make_train_step

STEPS = 60  # of the running statistics 0.9^60 is left that is not training's


@pytest.fixture(params=["city", "real keyframes"])
def config(request, tmp_path):
    if request.param == "city":
        config = tiny_config(request.getfixturevalue("world"))
    else:
        config = real_config(request.getfixturevalue("shared_dir"), tmp_path)
    config = without_teacher(config)
    config.data.batch_size = 1
    config.model.depth.dropout = 0.0  # noise of its own, which evaluation has not
    config.train.steps, config.train.warmup_steps, config.train.log_every = STEPS, 5, STEPS
    return config


@pytest.mark.slow
def test_losses_and_every_layers_statistics_agree_after_training_at_batch_1(config):
    mesh = make_mesh(jax.devices()[:1])
    index, learner = load_index(config.data), make_learner(config, STEPS)
    loader = make_train_loader(config, index, training_parts(config))
    state, step = initial_state(learner, replicated(mesh)), make_train_step(learner, mesh)
    for _ in range(STEPS):
        state, _ = step(state, put_batch(next(loader), mesh))
    loader.close()

    @functools.partial(jax.jit, static_argnames="train")
    def loss_and_statistics(batch, *, train):
        params, batch_stats = state.student("raw")
        images = normalize_images(batch.images)
        predictions, moved = apply_student(learner.student, params, batch_stats, images, batch.rig, train=train)
        return weighted_sum(supervised(learner, predictions, batch), config.loss.weights()), moved

    losses, shifts = {True: [], False: []}, {}
    running = flatten_dict(jax.device_get(state.batch_stats))
    for batch in make_eval_loader(config, index, config.data.train_split, training_parts(config), batch_size=1):
        batch = put_batch(batch, mesh)
        for train in losses:
            loss, moved = loss_and_statistics(batch, train=train)
            losses[train].append(float(loss))
            for path, new in flatten_dict(jax.device_get(moved)).items():
                if train and path[-1] == "mean":
                    of_batch = running[path] + (new - running[path]) / (1 - RUNNING_DECAY)
                    std = np.sqrt(running[*path[:-1], "var"] + EPSILON)
                    shifts.setdefault(path[:-1], []).append(np.abs(of_batch - running[path]) / std)
    assert np.mean(losses[False]) == pytest.approx(np.mean(losses[True]), rel=0.1)
    # In standard deviations, channels and samples in the mean: camera numbers under BatchNorm were 300 away.
    assert {path: np.mean(shift) for path, shift in shifts.items() if np.mean(shift) > 0.5} == {}
