"""Which weights a run validates: the averaged ones or the last ones, as the configuration says."""

from unittest.mock import MagicMock

import pytest

from occjax.config import Config
from occjax.run import train
from occjax.run.scoring import Evaluation
from occjax.train.state import TrainState


@pytest.mark.parametrize(("which", "shown"), [("ema", ({"w": 1}, {"s": 2})), ("raw", ({"w": 10}, {"s": 20}))])
def test_validation_is_of_the_configured_weights(which, shown, monkeypatch, tmp_path):
    config = Config()
    config.eval.weights = which
    averages = {"params": {"w": 1}, "batch_stats": {"s": 2}}
    state = TrainState(None, {"student": {"w": 10}, "adapter": {}}, {"s": 20}, None, averages)
    evaluated = []

    def evaluate_student(config, weights, *args, **options):
        evaluated.append(weights)
        return MagicMock(spec=Evaluation, scalars={"miou": 12.0})

    monkeypatch.setattr(train, "evaluate_student", evaluate_student)
    monkeypatch.setattr(train, "stored_initialisation", lambda workdir: {})
    train.TrainingRun._validate(MagicMock(config=config, state=state, step=7, total_steps=9, workdir=tmp_path))
    (weights,) = evaluated
    assert (weights.params, weights.batch_stats) == shown and weights.step == 7
