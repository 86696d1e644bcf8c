"""A loss term is declared by its weight's field and computed in one place; everything else follows from these two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distillation_reference import GRID, make_teacher, random_student

from occjax.config import Config, DistillConfig, LossConfig, term_weight
from occjax.config_checks import problems
from occjax.configs.supervised import without_teacher
from occjax.losses import distillation
from occjax.losses.total import weighted_sum
from occjax.types import Predictions


@dataclasses.dataclass
class WithSpread(DistillConfig):
    """The first place: a weight."""

    spread: float = term_weight(0.0)


@pytest.fixture
def config(monkeypatch) -> Config:
    """A configuration with a made-up term, the spread of the student's logits, and the weight 3 for it alone."""
    term = distillation.Term(lambda sample: sample.logits.std(), "teacher")
    monkeypatch.setitem(distillation.TERMS, "spread", term)  # the second place: a function
    config = Config()
    config.loss.distill = WithSpread(spread=3.0)
    config.data.teacher_dir = "teacher"
    return config


def test_a_made_up_term_is_summed_and_logged(config):
    logits, _ = random_student()
    teacher = jax.tree.map(lambda x: jnp.asarray(x)[None], make_teacher())
    distill = config.loss.distill
    terms = distillation.distillation_terms(Predictions(logits, None, None, None, None), teacher, None, distill, GRID)
    assert set(terms) == {"spread"}  # what the log shows: every term by its name
    np.testing.assert_allclose(terms["spread"], logits.std(), rtol=1e-5)
    np.testing.assert_allclose(weighted_sum(terms, distill.weights()), 3 * logits.std(), rtol=1e-5)


def test_a_made_up_term_is_checked_and_switched_off(config):
    assert config.loss.distill.is_on and problems(config) == []
    config.data.teacher_dir = ""
    assert "silently off" in problems(config)[0]
    assert not without_teacher(config).loss.distill.is_on and problems(config) == []
    config.loss.distill.spread = -1.0
    assert problems(config) == ["loss.distill.spread must be 0 or more and finite, not -1.0; 0 switches it off"]


def test_every_distillation_weight_has_its_term():
    assert set(DistillConfig().weights()) == set(distillation.TERMS)


def test_one_weight_may_count_for_several_terms():
    weights = LossConfig(scene_class_affinity=2.0).weights()
    assert weights["semantic_affinity"] == weights["geometric_affinity"] == 2.0
    assert "class_balanced" not in weights and "scene_class_affinity" not in weights
