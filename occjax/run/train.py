"""The run: data in, steps, logs, validation, checkpoints, and a clean end whenever it comes."""

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from occjax.config import Config
from occjax.data.index import Index, load_index
from occjax.data.pipeline import make_train_loader
from occjax.errors import UserError
from occjax.progress import format_duration
from occjax.run.evaluate import evaluate_student
from occjax.run.scoring import Evaluation, Outputs
from occjax.run.workdir import open_workdir
from occjax.train.checkpoint import Checkpoints
from occjax.train.class_counts import training_class_counts
from occjax.train.feed import DeviceFeed, Fed
from occjax.train.mesh import check_batch_size, make_mesh, replicated
from occjax.train.metrics_log import MetricsLog
from occjax.train.parts import training_parts
from occjax.train.progress import Progress
from occjax.train.state import initial_state, make_program
from occjax.train.step import make_train_step
from occjax.train.stop_requests import StopRequests

log = logging.getLogger(__name__)


class NonFiniteLossError(UserError):
    """A loss or gradient is infinite or no number."""


def train(config: Config, workdir: Path, *, mesh: Mesh | None = None) -> Evaluation | None:
    """Trains to the configured number of steps, resuming from the newest checkpoint in `workdir` if there is one.

    Returns:
      the final evaluation, or None if SIGTERM ended the run early (state saved).

    Raises:
      KeyboardInterrupt: SIGINT (Ctrl-C) ended the run early (state saved).
      NonFiniteLossError: names step, terms and sample tokens; the last checkpoint is the last good state.
      WorkdirError: `workdir` belongs to a run with another configuration.
    """
    mesh = make_mesh() if mesh is None else mesh
    check_batch_size(config.data.batch_size, config.train.accumulate_steps, mesh)
    for remark in open_workdir(workdir, config):
        log.warning("configuration changed since the run began: %s", remark)
    index = load_index(config.data, fallback_dir=workdir)
    with StopRequests() as requests:
        run = _Run(config, workdir, mesh, index)
        try:
            evaluation = run.steps(lambda: requests.received is not None)
        finally:
            run.close()
    if evaluation is None and requests.received == signal.SIGINT:
        raise KeyboardInterrupt
    return evaluation


class _Run:
    """One call of `train`: everything that its steps share."""

    def __init__(self, config: Config, workdir: Path, mesh: Mesh, index: Index):
        self.config, self.workdir, self.mesh, self.index = config, workdir, mesh, index
        split = index.split(config.data.train_split)
        self.tokens = split.tokens
        self.total_steps = _total_steps(config, len(split))
        steps_per_epoch = max(1, len(split) // config.data.batch_size)
        # At every epoch's end, but not more often than checkpoints: a handful of samples is an epoch too.
        self.eval_every = config.train.eval_every or max(steps_per_epoch, config.train.checkpoint_every)

        class_counts = training_class_counts(config, split)
        self.program, init = make_program(config, self.total_steps)
        self.checkpoints = Checkpoints(workdir, keep=config.train.keep_checkpoints)
        self.loader = make_train_loader(
            config,
            index,
            training_parts(config),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        last_step = self.checkpoints.last_step
        self.step = last_step or 0
        if last_step is None:
            self.state = initial_state(config, init, replicated(mesh))
        else:
            # Imported weights are a checkpoint too: of step 0, without a data position.
            self.state, position = self.checkpoints.restore(jax.eval_shape(init), mesh)
            if position:
                self.loader.set_state(position)
            log.info("resumed from step %d of %d", self.step, self.total_steps)
        self.train_step = make_train_step(config, self.program, mesh, class_counts)
        self.metrics_log = MetricsLog(workdir, self.step)
        self.progress = Progress(self.total_steps, config.data.batch_size)
        self.feed = DeviceFeed(self.loader, mesh)
        log.info(
            "training to step %d; the first step waits for the compiler, on a CPU a minute or two", self.total_steps
        )

    def close(self) -> None:
        self.feed.close()
        self.loader.close()
        self.metrics_log.close()
        self.checkpoints.close()

    def steps(self, stop_requested: Callable[[], bool]) -> Evaluation | None:
        config = self.config.train
        position = None
        first_step, started = self.step + 1, time.perf_counter()
        while self.step < self.total_steps and not stop_requested():
            fed = self.progress.next_item(self.feed)
            self.state, metrics = self.train_step(self.state, fed.batch)
            self.step += 1
            position = fed.position
            self._require_finite(metrics, fed)
            self.progress.count_step()
            if self.step % config.log_every == 0 or self.step == self.total_steps:
                self._report(metrics)
            if self.step == first_step:
                log.info("first step done after %s", format_duration(time.perf_counter() - started))
                self.progress.reset()  # what compiling took says nothing about the steps to come
            if self.step % config.checkpoint_every == 0:
                self.checkpoints.save(self.step, self.state, position)
                self.progress.reset()
            if self.step % self.eval_every == 0 and self.step < self.total_steps:
                self._validate(position)
                self.progress.reset()
        if position is not None:
            self.checkpoints.save(self.step, self.state, position)
        if self.step < self.total_steps:
            where = self.checkpoints.path(self.step)
            log.info("stopped on request after step %d; run the same command to resume from %s", self.step, where)
            return None
        result = self._validate(position)
        return result._replace(files=(self.checkpoints.path(self.step), *result.files))

    def _report(self, metrics: dict) -> None:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        speed = self.progress.measure()
        self.metrics_log.write(self.step, "train", values | speed)
        names = ("loss", "supervision", "distillation", "gradient_ratio") if "gradient_ratio" in values else ("loss",)
        shown = {name: values[name] for name in names}
        log.info("%s", self.progress.line(self.step, shown, speed))
        self.progress.reset()

    def _require_finite(self, metrics: dict, fed: Fed) -> None:
        if bool(metrics["is_finite"]):
            return
        listed = "\n".join(f"  {name}: {float(value)}" for name, value in jax.device_get(metrics).items())
        tokens = ", ".join(str(self.tokens[i]) for i in fed.sample_index)
        last = self.checkpoints.last_step
        raise NonFiniteLossError(
            f"the loss or gradient of step {self.step} is not finite:\n{listed}\nsamples: {tokens}\n"
            f"last sound checkpoint: {'none yet' if last is None else self.checkpoints.path(last)}; look at these "
            "samples, or lower --config.train.learning_rate"
        )

    def _validate(self, position: dict | None) -> Evaluation:
        """Evaluates and keeps the state if it is the best; pictures and table only at the end of the run."""
        is_final = self.step == self.total_steps
        result = evaluate_student(
            self.config,
            self.program,
            self.state,
            self.index,
            mesh=self.mesh,
            output_dir=self.workdir / "eval" / f"step-{self.step}",
            outputs=Outputs(pictures=self.config.eval.pictures if is_final else 0),
        )
        self.metrics_log.write(self.step, "validation", result.scalars)
        miou = result.scalars["miou"]
        is_best = position is not None and self.checkpoints.save_best(self.step, self.state, position, miou)
        # SurroundOcc counts classes without truth as 100, so that its mIoU of a useless model can be high.
        present = result.scalars.get("miou_present")
        remark = "" if present is None else f", over classes present {present:.2f}"
        log.info(
            "validation at step %d: mIoU %.2f%s%s", self.step, miou, remark, ", the best so far" if is_best else ""
        )
        return result


def _total_steps(config: Config, samples: int) -> int:
    total = config.train.steps or config.train.epochs * samples // config.data.batch_size
    if total < 1:
        raise UserError(
            f"train.epochs={config.train.epochs} over {samples} samples in batches of {config.data.batch_size} makes "
            "no step; set --config.train.steps"
        )
    return total
