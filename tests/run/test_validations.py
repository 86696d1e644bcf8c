"""Validations of a run: of the configured weights, and once for each step wherever the run is killed and resumed."""

import json
import logging
import signal
import threading
import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import pytest
from tiny_state import tiny_state
from tiny_world import tiny_config

from occjax.config import Config
from occjax.data.index import load_index
from occjax.run import train as train_module
from occjax.run.scoring import Evaluation
from occjax.run.train import TrainingRun
from occjax.storage import write_json
from occjax.system.mesh import make_mesh
from occjax.system.stop_requests import StopRequested
from occjax.train import progress as progress_module
from occjax.train.checkpoint import Checkpoints
from occjax.train.compiled_step import CompiledStep
from occjax.train.metrics_log import MetricsLog
from occjax.train.state import TrainState

SCORES = {2: 20.0, 4: 30.0, 6: 25.0}  # per cent by step


class Killed(BaseException):
    """The process ends here."""


class FakeRun:
    """A workdir whose runs go on to step 6 and validate at 2 and 4, with steps that only count.

    Attributes:
      validated: the steps that were evaluated, in order.
      summary_fns: what it was evaluated with, one for each validation.
      ends_before_step: where the process is killed, if anywhere; likewise in `ends_in`, a validation.
    """

    def __init__(self, config, workdir):
        self.config, self.workdir = config, workdir
        self.validated, self.summary_fns = [], []
        self.ends_before_step = self.ends_in = self.stopped_in = None
        self.steps_done = self.signal = 0

    def step(self, state, batch):
        self.steps_done += 1
        if int(state.step) + 1 == self.ends_before_step:
            raise Killed
        metrics = dict.fromkeys(("loss", "grad_norm"), jnp.float32(1)) | {"is_finite": jnp.bool_(True)}
        return state._replace(step=state.step + 1), metrics

    def evaluate(self, config, weights, index, *, summary_fn, output_dir, outputs, asked, **_):
        self.validated.append(weights.step)
        self.summary_fns.append(summary_fn)
        if weights.step == self.ends_in:
            raise Killed
        if weights.step == self.stopped_in:
            self.signal = signal.SIGTERM
            if number := asked(True):
                raise StopRequested(number)
        results = {"step": weights.step, "weights": config.eval.weights, "split": "val", "samples": 3}
        # What the protocol counts as 100 may fall while the classes that are there get better.
        scores = {"miou": 90.0 - weights.step, "miou_present": SCORES[weights.step]}
        results |= {"protocols": [scores], "teacher_agreement": None}
        results |= {"occupancy_calibration_error": None}
        write_json(output_dir / "metrics.json", results)
        (output_dir / "table.txt").write_text(f"table of step {weights.step}")
        (output_dir / "pictures").mkdir(exist_ok=True)
        for i in range(outputs.pictures):
            (output_dir / "pictures" / f"{i}.png").write_bytes(b"")
        return Evaluation(results, f"table of step {weights.step}", (output_dir / "metrics.json",))

    def start(self):
        """Starts or resumes; the final evaluation, or None where the process was killed."""
        self.signal = 0
        run = TrainingRun(
            self.config, self.workdir, make_mesh(), load_index(self.config.data), stop_requested=lambda: self.signal
        )
        try:
            return run.steps()
        except Killed:
            self.ends_before_step = self.ends_in = None
            return None
        finally:
            run.close()


@pytest.fixture
def fake(world, tmp_path, monkeypatch):
    config = tiny_config(world)
    config.train.log_every = config.train.checkpoint_every = 100
    config.train.eval_every = 2
    fake = FakeRun(config, tmp_path)
    learner = SimpleNamespace(is_logged=lambda step: step == 6)
    monkeypatch.setattr(train_module, "make_learner", lambda *_: learner)
    monkeypatch.setattr(train_module, "initial_state", lambda *_: tiny_state())
    monkeypatch.setattr(train_module, "abstract_state", lambda _: jax.eval_shape(tiny_state))
    monkeypatch.setattr(train_module, "compile_step", lambda *_: CompiledStep(fake.step, 1e12))
    monkeypatch.setattr(train_module, "evaluate_student", fake.evaluate)
    return fake


def logged(fake) -> list[int]:
    """Steps of the validations in the log."""
    entries = map(json.loads, (fake.workdir / "log.jsonl").read_text().splitlines())
    return [entry["step"] for entry in entries if entry["group"] == "validation"]


def best(fake) -> list[str]:
    return [folder.name for folder in (fake.workdir / "best").glob("[0-9]*")]


def test_a_validation_that_was_done_is_not_repeated(fake):
    fake.ends_before_step = 4  # after the validation at 2, and no checkpoint is due in between
    assert fake.start() is None and fake.validated == [2] and best(fake) == ["2"]
    fake.ends_before_step = 5  # at the step of a validation
    assert fake.start() is None and fake.validated == [2, 4] and best(fake) == ["4"]
    assert fake.start().table == "table of step 6"
    assert fake.validated == logged(fake) == [2, 4, 6] and best(fake) == ["4"]


def test_all_validations_share_what_was_compiled(fake):
    assert fake.start() is not None and len(fake.summary_fns) == 3
    assert len({id(summary_fn) for summary_fn in fake.summary_fns}) == 1


def test_checkpoints_are_written_by_the_clock(fake, monkeypatch):
    fake.config.train.checkpoint_every, fake.config.train.eval_every = 0, 100
    fake.config.train.checkpoint_minutes, fake.config.train.keep_checkpoints = 2.0, 10
    # A step takes a minute.
    minute = SimpleNamespace(perf_counter=time.perf_counter, monotonic=lambda: 60.0 * int(fake.steps_done))
    monkeypatch.setattr(train_module, "time", minute)
    assert fake.start() is not None
    assert sorted(path.name for path in (fake.workdir / "checkpoints").glob("[0-9]*")) == ["2", "4", "6"]


def test_the_log_says_what_the_loop_spent_its_time_on(fake, monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(progress_module, "time", clock)

    def taking(seconds, function):
        def timed(*arguments, **how):
            clock.now += seconds
            return function(*arguments, **how)

        return timed

    step = taking(1.0, fake.step)
    monkeypatch.setattr(train_module, "compile_step", taking(100.0, lambda *_: CompiledStep(step, 3e12)))
    monkeypatch.setattr(train_module, "evaluate_student", taking(10.0, fake.evaluate))
    monkeypatch.setattr(Checkpoints, "save", taking(5.0, Checkpoints.save))
    monkeypatch.setattr(Checkpoints, "save_best", taking(7.0, Checkpoints.save_best))
    assert fake.start() is not None
    entries = map(json.loads, (fake.workdir / "log.jsonl").read_text().splitlines())
    (entry,) = (entry for entry in entries if entry["group"] == "train")
    # Six steps, of which the second and the fourth were saved and validated.
    spent = {"step": 6, "waiting": 0, "compiling": 100, "saving": 2 * (5 + 7), "validating": 2 * 10}
    assert {name: 150 * entry[f"time/{name}"] for name in spent} == pytest.approx(spent)
    assert (entry["step_s"], entry["model_tflop_per_s"]) == (1, 3)


def test_a_validation_that_was_cut_off_is_made_up_for(fake):
    fake.ends_in = 2
    assert fake.start() is None and logged(fake) == []
    fake.ends_in = 6
    assert fake.start() is None and fake.validated == [2, 2, 4, 6]
    assert fake.start().table == "table of step 6" and logged(fake) == [2, 4, 6] and best(fake) == ["4"]


def checkpoints(fake) -> list[str]:
    return sorted(path.name for path in (fake.workdir / "checkpoints").glob("[0-9]*"))


def test_a_validation_is_given_up_on_request_and_its_step_is_saved(fake, caplog):
    caplog.set_level(logging.INFO, "occjax")
    for step, done in ((2, []), (6, [2, 4])):
        fake.stopped_in = step
        assert fake.start() is None and logged(fake) == done and checkpoints(fake)[-1] == str(step)
        assert f"stopped on request after step {step}; run the same command to resume from " in caplog.text
    fake.stopped_in = None
    assert fake.start().table == "table of step 6" and logged(fake) == [2, 4, 6]
    assert "step 6 of 6: the run is finished" in caplog.text


def test_nobody_waits_for_the_compiler_when_asked_to_stop(fake, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "occjax")
    goes_on = threading.Event()

    def compile_step(*_):
        fake.signal = signal.SIGUSR1
        goes_on.wait(60)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "compile_step", compile_step)
        started = time.monotonic()
        assert fake.start() is None and time.monotonic() - started < 30
    goes_on.set()
    assert checkpoints(fake) == [] and "to begin again: there was nothing to save" in caplog.text


def test_a_run_that_is_killed_between_the_best_state_and_the_log_line_goes_on(fake, monkeypatch):
    write = MetricsLog.write

    def killed(log, step, group, scalars):
        if (step, group) == (4, "validation"):
            raise Killed
        write(log, step, group, scalars)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", killed)
        assert fake.start() is None
    assert best(fake) == ["4"] and logged(fake) == [2]
    monkeypatch.setitem(SCORES, 4, 31.0)  # what another device computes may differ a little
    assert fake.start() is not None and logged(fake) == [2, 4, 6] and best(fake) == ["4"]
    (metrics,) = (fake.workdir / "best/4/metrics").glob("metrics")
    assert json.loads(metrics.read_text()) == {"miou_present": 31.0}


def test_a_finished_run_shows_its_evaluation_again(fake):
    first = fake.start()
    again = fake.start()
    assert fake.validated == [2, 4, 6] and again.table == first.table and again.scalars == first.scalars
    names = [path.name for path in again.files]
    assert names == ["6", "metrics.json", "0.png"] and all(path.exists() for path in again.files)
    # What is asked for now is not there: other weights, more pictures.
    fake.config.eval.weights = "raw"
    fake.start()
    fake.config.eval.pictures = 2
    fake.start()
    assert fake.validated == [2, 4, 6, 6, 6]


@pytest.mark.parametrize(("which", "shown"), [("ema", ({"w": 1}, {"s": 2})), ("raw", ({"w": 10}, {"s": 20}))])
def test_validation_is_of_the_configured_weights(which, shown, monkeypatch, tmp_path):
    config = Config()
    config.eval.weights = which
    averages = {"params": {"w": 1}, "batch_stats": {"s": 2}}
    state = TrainState(None, {"student": {"w": 10}, "adapter": {}}, {"s": 20}, None, averages)
    evaluated = []

    def evaluate_student(config, weights, *args, **options):
        evaluated.append(weights)
        return MagicMock(spec=Evaluation, scalars={"miou": 12.0, "miou_present": 12.0})

    monkeypatch.setattr(train_module, "evaluate_student", evaluate_student)
    monkeypatch.setattr(train_module, "stored_initialisation", lambda workdir: {})
    TrainingRun._validate(MagicMock(config=config, state=state, step=7, total_steps=9, workdir=tmp_path))
    (weights,) = evaluated
    assert (weights.params, weights.batch_stats) == shown and weights.step == 7
