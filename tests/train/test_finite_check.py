"""A step that goes wrong is found one step late at the most, under its own number, and before anything is saved."""

import jax.numpy as jnp
import numpy as np
import pytest

from occjax.data.index import load_index
from occjax.run import train as train_module
from occjax.run.train import TrainingRun
from occjax.system.mesh import make_mesh
from occjax.train.compiled_step import CompiledStep
from occjax.train.finite_check import FiniteCheck, NonFiniteLossError


def metrics(is_finite):
    return {"loss": jnp.float32(1.0 if is_finite else jnp.nan), "is_finite": jnp.asarray(is_finite)}


class Unready(dict):
    """Metrics that the device has not computed: to look at them is to wait for them."""

    def __getitem__(self, name):
        raise AssertionError("the host waited for the step it has just handed over")


def test_the_newest_step_is_not_waited_for():
    check = FiniteCheck("abc", lambda: None)
    check.follow(1, metrics(True), np.array([0]))
    check.follow(2, Unready(), np.array([1]))
    with pytest.raises(AssertionError):
        check.settle()
    check.settle()  # nothing is open any more


def test_the_step_before_is_named_with_its_own_samples():
    check = FiniteCheck(["first", "second", "third"], lambda: None)
    check.follow(6, metrics(True), np.array([0]))
    check.follow(7, metrics(False), np.array([2, 1]))
    with pytest.raises(
        NonFiniteLossError, match=r"step 7 is not finite(.|\n)*loss: nan(.|\n)*samples: third, second\n"
    ):
        check.follow(8, metrics(True), np.array([0]))


@pytest.fixture
def training(config, tmp_path, monkeypatch):
    """A run whose compiled step only counts, and is not finite at step 3; and the rows of each step's samples."""
    rows = []

    def fake_step(state, batch):
        rows.append(np.asarray(batch.sample_index))
        return state, metrics(len(rows) != 3)

    monkeypatch.setattr(train_module, "compile_step", lambda *_: CompiledStep(fake_step, 1e12))
    monkeypatch.setattr(train_module, "evaluate_student", lambda *_, **__: pytest.fail("a bad state was evaluated"))

    def start(stop_requested=lambda: 0, **train):
        for name, value in train.items():
            setattr(config.train, name, value)
        return TrainingRun(config, tmp_path, make_mesh(), load_index(config.data), stop_requested=stop_requested)

    return start, rows


@pytest.mark.parametrize(
    ("settings", "steps_done"),
    [
        # Saved after every step: looked at before that.
        pytest.param({"log_every": 100, "checkpoint_every": 1}, 3, marks=pytest.mark.slow),
        ({"log_every": 100, "checkpoint_every": 2}, 4),  # found when the next step has been handed over
        ({"log_every": 100, "checkpoint_every": 100, "eval_every": 3}, 3),  # evaluated after it
    ],
)
def test_nothing_of_a_bad_step_or_a_later_one_is_saved(training, settings, steps_done):
    start, rows = training
    run = start(**settings)
    try:
        with pytest.raises(NonFiniteLossError) as error:
            run.steps()
        saved = run.checkpoints.last_step
    finally:
        run.close()
    assert len(rows) in (3, steps_done)  # 3 where the feed had nothing to go on with
    assert "step 3 is not finite" in str(error.value)
    tokens = run.index.split("train").tokens
    assert f"samples: {', '.join(str(tokens[i]) for i in rows[2])}\n" in str(error.value)
    expected = 2 if settings["checkpoint_every"] <= 2 else None
    assert saved == expected and (str(run.checkpoints.path(2)) in str(error.value)) == bool(expected)
    assert not (run.workdir / "best").is_dir() or not list((run.workdir / "best").glob("[0-9]*"))


def test_a_stop_on_request_saves_no_bad_step(training):
    start, rows = training
    run = start(lambda: len(rows) == 3, log_every=100, checkpoint_every=100)
    try:
        with pytest.raises(NonFiniteLossError, match="step 3 is not finite"):
            run.steps()
        assert run.checkpoints.last_step is None
    finally:
        run.close()
