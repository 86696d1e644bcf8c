"""Distillation where the cameras see, and how much of its weight lies there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distillation_reference import GRID, make_teacher, random_student, reference_weights, some_seen, some_valid

from occjax.config import DistillConfig
from occjax.losses.distillation import distillation_terms, share_in_mask
from occjax.targets.moving import dense_log_probs
from occjax.types import Predictions

ALL = DistillConfig(voxel_kl=1.0, bev_kl=1.0, channel_wise=1.0, bev_feature=1.0)


def one(teacher):
    return jax.tree.map(lambda x: jnp.asarray(x)[None], teacher)


def test_a_camera_mask_counts_only_where_it_is_asked_for():
    teacher, seen = one(make_teacher()), jnp.asarray(some_seen())[None]
    logits, adapted = random_student()
    predictions = Predictions(logits, None, None, None, None)

    def terms(use_camera_mask, seen):
        config = dataclasses.replace(ALL, use_camera_mask=use_camera_mask)
        return distillation_terms(predictions, teacher, adapted, config, GRID, seen)

    everywhere, asked, not_asked = terms(True, None), terms(True, seen), terms(False, seen)
    for name in ALL.weights():
        np.testing.assert_array_equal(not_asked[name], everywhere[name])
        assert abs(float(asked[name] - everywhere[name])) > 1e-3 * float(everywhere[name]), name


def test_share_of_the_weight_in_the_mask_voxel_by_voxel():
    teacher, seen = make_teacher(valid=some_valid()), some_seen()
    weights = reference_weights(dense_log_probs(teacher, GRID.shape), some_valid(), 0.3)
    config = dataclasses.replace(ALL, use_camera_mask=False)
    share = share_in_mask(one(teacher), jnp.asarray(seen)[None], config, GRID)
    wanted = weights[seen].sum() / weights.sum()
    assert float(share) == pytest.approx(wanted, rel=1e-5) and 0.3 < wanted < 0.7
    assert float(share_in_mask(one(teacher), jnp.asarray(seen)[None], ALL, GRID)) == pytest.approx(1, rel=1e-6)
