"""Training run: data in, steps, logs, validation, checkpoints, and a clean end whenever it comes."""

import logging
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from occjax.config import Config
from occjax.data.index import Index
from occjax.data.pipeline import make_train_loader
from occjax.predict.stored_weights import Weights
from occjax.run.evaluate import evaluate_student, make_summary_fn
from occjax.run.evaluations import evaluation_dir
from occjax.run.scoring import Evaluation, Outputs, completed_evaluation
from occjax.run.start import begun, total_steps
from occjax.run_config import stored_initialisation
from occjax.system.mesh import make_mesh, replicated
from occjax.system.processes import is_first, wait_for_all
from occjax.system.progress import format_duration
from occjax.system.stop_requests import StopRequested, StopRequests, in_a_thread
from occjax.train.agreement import Agreement
from occjax.train.checkpoint import Checkpoints
from occjax.train.class_counts import training_class_counts
from occjax.train.compiled_step import CompiledStep, compile_step
from occjax.train.feed import DeviceFeed
from occjax.train.finite_check import FiniteCheck
from occjax.train.learner import abstract_state, initial_state, make_learner
from occjax.train.metrics_log import MetricsLog
from occjax.train.parts import training_parts
from occjax.train.progress import Progress
from occjax.train.state import TrainState
from occjax.types import Batch

log = logging.getLogger(__name__)


def train(
    config: Config, workdir: Path, *, mesh: Mesh | None = None, allow_other_data: bool = False
) -> Evaluation | None:
    """Trains to the configured number of steps, resuming from the newest checkpoint in `workdir` if there is one.

    A start that fails before anything was learnt leaves nothing of itself in `workdir`. With `allow_other_data` a run
    may go on with other samples than it began with.

    Returns:
      the final evaluation, or None if a signal ended the run early (state saved).

    Raises:
      KeyboardInterrupt: SIGINT (Ctrl-C) ended the run early (state saved).
      NonFiniteLossError: names step, terms and sample tokens; the last checkpoint is the last good state.
      WorkdirError: the run in `workdir` has another configuration, other data or more steps, or is going on now.
      BackboneWeightsError: the run is new, and its file of backbone weights is absent.
      UserError: the validation split has no labels, or other data is not there.
    """
    mesh = make_mesh() if mesh is None else mesh
    stopped_by, evaluation = 0, None
    with begun(config, workdir, mesh, allow_other_data=allow_other_data) as index, StopRequests() as requests:
        try:
            how = {"stop_requested": lambda: requests.received, "allow_other_data": allow_other_data}
            run = TrainingRun(config, workdir, mesh, index, **how)
            try:
                evaluation = run.steps()
                stopped_by = run.stopped_by
            finally:
                run.close()
        except StopRequested as request:  # of what comes before the first step
            log.info("stopped on request before there was anything to save; run the same command to begin again")
            stopped_by = request.number
    if evaluation is None and stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    return evaluation


class TrainingRun:
    """One call of `train`: everything that its steps share.

    The order of the loop is a contract:

    * nothing is saved, validated or logged before the finite check has settled: no bad state reaches a disk;
    * a step is saved before it is validated, and is on the disk before its validation is logged: a run that is resumed
      knows by the log of its step whether that was validated;
    * the best state is on the disk before its validation is logged: what the log has is done, and is not done again;
    * whatever one process alone knows, a signal or the time, it tells the others before it acts on it: all of them
      save, validate and stop after the same step;
    * the data position that is saved is that of the batch the step consumed, though the loader is ahead of it;
    * the state is donated to the step: the one that comes back is the only one there is.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        mesh: Mesh,
        index: Index,
        *,
        stop_requested: Callable[[], int] = lambda: 0,
        allow_other_data: bool = False,
    ):
        """Restores or draws the state; `stop_requested` gives the number of a signal that asks to stop, else 0."""
        self.config, self.workdir, self.mesh, self.index = config, workdir, mesh, index
        self.stop_requested = stop_requested
        split = index.split(config.data.train_split)
        self.total_steps = total_steps(config, len(split))
        steps_per_epoch = max(1, len(split) // config.data.batch_size)
        # At every epoch's end, but not more often than checkpoints: a handful of samples is an epoch too.
        self.eval_every = config.train.eval_every or max(steps_per_epoch, config.train.checkpoint_every)

        self.learner = make_learner(config, self.total_steps, training_class_counts(config, split, self._asked_alone))
        self.checkpoints = Checkpoints(workdir, keep=config.train.keep_checkpoints)
        share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        self.loader = make_train_loader(config, index, training_parts(config), **share)
        self.step = self.checkpoints.last_step or 0
        # The position is that of the batch which the last step consumed; None before the first.
        self.state, self.position = self._first_state(allow_other_data)
        self.train_step: CompiledStep | None = None  # the first batch shows for which shapes
        self.summary_fn = make_summary_fn(config, mesh)
        self.agreement = Agreement(mesh, 2)
        self.stopped_by = 0  # a signal's number, the same on all processes
        self.saved_at_s = time.monotonic()
        self.finite_check = FiniteCheck(split.tokens, self._last_checkpoint)
        self.metrics_log = MetricsLog(workdir, self.step)
        self.progress = Progress(self.total_steps, config.data.batch_size)
        self.feed = DeviceFeed(self.loader, mesh, self._asked_alone)
        remark = "the first step waits for the compiler" if self.step < self.total_steps else "the run is finished"
        log.info("step %d of %d: %s", self.step, self.total_steps, remark)

    def _asked(self, together: bool) -> int:
        """By what signal this run is asked to stop; see `occjax.run.scoring.Asked`."""
        return self.agreement.after_step(self.stop_requested(), 0)[0] if together else self._asked_alone()

    def _asked_alone(self) -> int:
        # One of several processes would stop alone, and the others wait for it.
        return self.stop_requested() if jax.process_count() == 1 else 0

    def _first_state(self, allow_other_data: bool) -> tuple[TrainState, dict | None]:
        """By priority: the newest checkpoint of the workdir, the configured backbone weights, random numbers."""
        if self.checkpoints.last_step is None:
            return initial_state(self.learner, replicated(self.mesh)), None
        # Imported weights are a checkpoint too: of step 0, without a data position.
        state, position = self.checkpoints.restore(abstract_state(self.learner), self.mesh)
        if position:
            # Of other data it says how many batches were taken, and no more.
            now = self.loader.get_state() if allow_other_data else position
            self.loader.set_state({**now, "next_batch": position.get("next_batch")})
        log.info("resumed from step %d", self.step)
        return state, position or None

    def close(self) -> None:
        """Ends the loader and its thread, and closes the files."""
        self.feed.close()
        self.loader.close()
        self.metrics_log.close()
        self.checkpoints.close()

    def steps(self) -> Evaluation | None:
        """All steps that are left, or those until the run is asked to stop; returns as `train`."""
        evaluation = None
        try:
            # Of a run that was killed after it had saved this step.
            if self._is_validation_due():
                self._validate()
            self._take_steps()
        except StopRequested as request:
            self.stopped_by = request.number
        self._save()
        with self.progress.spending("saving"):
            self.checkpoints.wait()
        if not self.stopped_by:
            try:
                evaluation = self._final_evaluation()
            except StopRequested as request:
                self.stopped_by = request.number
        if self.stopped_by:
            saved = self._last_checkpoint()
            where = f"resume from {saved}" if saved else "begin again: there was nothing to save"
            log.info("stopped on request after step %d; run the same command to %s", self.step, where)
        log.info("%s", self.progress.summary())
        return evaluation and evaluation._replace(files=(self.checkpoints.path(self.step), *evaluation.files))

    def _take_steps(self) -> None:
        every = self.config.train.checkpoint_every
        self.stopped_by = self._asked(True)
        while self.step < self.total_steps and not self.stopped_by:
            if self.feed.is_empty:
                # There is no batch to hand over: the device may as well finish, and what follows is waiting for data.
                self.finite_check.settle()
            item = self.progress.next_item(self.feed)
            if self.train_step is None:
                self.train_step = self._compiled(item.batch)
            # Returns before the step is done: the device computes while the host goes on to the next batch.
            self.state, metrics = self.train_step.call(self.state, item.batch)
            self.step += 1
            self.position = item.position
            self.finite_check.follow(self.step, metrics, item.sample_index)
            if self.learner.is_logged(self.step):
                self._report(metrics)
            self.stopped_by, is_late = self.agreement.after_step(self.stop_requested(), self._is_checkpoint_due())
            is_validation_due = self._is_validation_due() and not self.stopped_by
            if is_validation_due or is_late or (every and self.step % every == 0):
                self._save()
            if is_validation_due:
                self._validate()

    def _compiled(self, batch: Batch) -> CompiledStep:
        with self.progress.spending("compiling"):
            started = time.perf_counter()
            step = in_a_thread(lambda: compile_step(self.learner, self.mesh, self.state, batch), self._asked_alone)
            # Who has compiled first would otherwise wait within the step, where patience ends after half a minute.
            wait_for_all()
            log.info("the step is compiled, after %s", format_duration(time.perf_counter() - started))
        self.progress.flops_per_step = step.flops
        return step

    def _is_checkpoint_due(self) -> bool:
        """Whether the last one is train.checkpoint_minutes old by the first process's clock, which says so once."""
        now = time.monotonic()
        is_due = is_first() and 0 < 60 * self.config.train.checkpoint_minutes <= now - self.saved_at_s
        if is_due:
            # Not when it is saved, a step later, or it would be asked for twice.
            self.saved_at_s = now
        return is_due

    def _save(self) -> None:
        self.finite_check.settle()
        if self.position is not None:  # at least one step was done: otherwise the checkpoint is there already
            with self.progress.spending("saving"):
                self.checkpoints.save(self.step, self.state, self.position)
        self.saved_at_s = time.monotonic()

    def _last_checkpoint(self) -> Path | None:
        last = self.checkpoints.last_step
        return None if last is None else self.checkpoints.path(last)

    def _report(self, metrics: dict) -> None:
        self.finite_check.settle()
        # Here rather than at the next save, which may be an hour away.
        self.checkpoints.check()
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        speed = self.progress.measure()
        self.metrics_log.write(self.step, "train", values | speed)
        # With a teacher, whether it is heard; the other scalars are for the files.
        names = ("loss", "supervision", "distillation", "gradient_ratio", "gradient_cosine")
        shown = {name: values[name] for name in (names if "gradient_ratio" in values else ("loss",))}
        log.info("%s", self.progress.line(self.step, shown, speed))

    def _is_validation_due(self) -> bool:
        """Whether this step, before the last one, is to be validated and was not yet, by this run or one before."""
        is_chosen = 0 < self.step < self.total_steps and self.step % self.eval_every == 0
        return is_chosen and not self.metrics_log.has(self.step, "validation")

    def _final_evaluation(self) -> Evaluation:
        """That of the last step; read where the run was finished before and all that it shows is there."""
        found = None
        if self.metrics_log.has(self.step, "validation"):
            split = self.index.split(self.config.data.val_split)
            found = completed_evaluation(self._evaluation_dir(), self.config.eval, split, self.step)
        if found is None:
            return self._validate()
        log.info("step %d was evaluated before", self.step)
        return found

    def _evaluation_dir(self) -> Path:
        return evaluation_dir(self.config, self.workdir, self.index.split(self.config.data.val_split), step=self.step)

    def _validate(self) -> Evaluation:
        """Evaluates and keeps the state if it is the best; pictures and table only at the end of the run."""
        self.finite_check.settle()
        is_final = self.step == self.total_steps
        with self.progress.spending("validating"):
            result = evaluate_student(
                self.config,
                Weights(*self.state.student(self.config.eval.weights), self.step),
                self.index,
                summary_fn=self.summary_fn,
                mesh=self.mesh,
                output_dir=self._evaluation_dir(),
                outputs=Outputs(pictures=self.config.eval.pictures if is_final else 0),
                initialisation=stored_initialisation(self.workdir),
                asked=self._asked,
            )
        # SurroundOcc counts classes without truth as 100, so that its mIoU of a useless model can be high: the best is
        # the best of the classes that are there.
        present = result.scalars.get("miou_present", math.nan)
        with self.progress.spending("saving"):
            self.checkpoints.wait()
            is_best = self.position is not None and self.checkpoints.save_best(
                self.step, self.state, self.position, present
            )
        # After the best state: see above.
        self.metrics_log.write(self.step, "validation", result.scalars)
        miou, remark = result.scalars.get("miou", math.nan), ", the best so far" if is_best else ""
        log.info("validation at step %d: mIoU %.2f, of the classes present %.2f%s", self.step, miou, present, remark)
        return result
