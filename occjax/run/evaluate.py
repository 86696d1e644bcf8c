"""Evaluation of a checkpoint, or of the teacher's files by the same protocol: what distillation can hope for."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from occjax.classes import IGNORE
from occjax.config import Config
from occjax.data.files import labels_folder
from occjax.data.index import Index, SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.data.sources import unlabelled_rows
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet, label_set
from occjax.metrics.calibration import CANDIDATES, OWN
from occjax.metrics.on_device import VoxelSummary, dense_teacher, summarise
from occjax.predict.forward import full_batch, make_predictor
from occjax.predict.stored_weights import Weights, checkpoint_folder, restore
from occjax.predict.temperature import NO_TEMPERATURE, write_temperature
from occjax.run.evaluations import evaluation_dir
from occjax.run.scoring import Asked, EvaluatedModel, Evaluation, Outputs, evaluate
from occjax.run_config import stored_initialisation
from occjax.system.mesh import make_mesh
from occjax.system.processes import after_first, from_first
from occjax.targets.commands import completing_command
from occjax.targets.reader import complete_teacher
from occjax.types import Batch

_log = logging.getLogger(__name__)
# Of weights, what summarises numpy batches.
SummaryFn = Callable[[Weights], Callable[[Batch], VoxelSummary]]


def evaluate_workdir(
    config: Config, workdir: Path, *, outputs: Outputs, best: bool = False, fit_temperature: bool = False
) -> Evaluation:
    """Evaluates the newest checkpoint of `workdir` (or the best one) on `config.data.val_split`.

    Calibration is scored at the checkpoint's temperature too, if it has one. `fit_temperature` fits it on these
    samples, in the same pass, and keeps it with the checkpoint for all who predict.

    Raises:
      UserError: no checkpoint, one of another model, or data that is not there.
    """
    # Weights first: without a checkpoint there is no need to read the tables.
    mesh = make_mesh()
    weights = restore(config, workdir, mesh, best=best)
    tried = CANDIDATES if fit_temperature else (weights.temperature,) if weights.temperature != NO_TEMPERATURE else ()
    outputs = outputs._replace(temperatures=(*OWN, *tried))
    index = after_first(lambda: load_index(config.data, fallback_dir=workdir))
    split = index.split(config.data.val_split)
    evaluation = evaluate_student(
        config,
        weights,
        index,
        summary_fn=make_summary_fn(config, mesh, outputs.temperatures),
        mesh=mesh,
        output_dir=evaluation_dir(config, workdir, split, step=weights.step, best=best),
        outputs=outputs,
        initialisation=stored_initialisation(workdir),
    )
    if not fit_temperature:
        return evaluation
    # Of the weights that were read: a run that goes on may have saved newer ones.
    checkpoint = checkpoint_folder(workdir, best=best).with_name(str(weights.step))
    return _with_temperature(evaluation, checkpoint, config.eval.weights)


def _with_temperature(evaluation: Evaluation, checkpoint: Path, which: str) -> Evaluation:
    """Keeps what was fitted, and names the file among those that were written."""
    results = evaluation.results
    if not results or results["temperature"] is None:
        raise UserError(
            "a temperature is fitted to labels, and this split has none; set data.val_split to one that has"
        )
    fitted = results["temperature"]["value"]
    if fitted in (CANDIDATES[0], CANDIDATES[-1]):
        _log.warning("temperature %.3g is the end of what is tried: probabilities are far from honest", fitted)

    def write() -> str:
        path = write_temperature(checkpoint, which, fitted, split=results["split"], samples=results["samples"])
        return str(path)

    return evaluation._replace(files=(*evaluation.files, Path(from_first(write))))


def evaluate_student(
    config: Config,
    weights: Weights,
    index: Index,
    *,
    summary_fn: SummaryFn,
    mesh: Mesh,
    output_dir: Path,
    outputs: Outputs,
    initialisation: dict[str, str] | None,
    asked: Asked = lambda together: 0,
) -> Evaluation:
    """Evaluates a student on `config.data.val_split`.

    Args:
      config: label set, grid, evaluation outputs.
      weights: the configured ones (EMA or raw) of a checkpoint or of a run.
      index: of the data.
      summary_fn: `make_summary_fn` of the same configuration and mesh, which compiles once however often it is used.
      mesh: devices; the batch is rounded up to a multiple of their number.
      output_dir: gets metrics.json, pictures and predictions.
      outputs: what is produced beside scores.
      initialisation: what the weights started from, as the run's config.json holds it.
      asked: see `occjax.run.scoring.Asked`.

    Raises:
      StopRequested: the pass was given up.
      UserError: data that is not there, or nothing to do: no labels to score by, and predictions are not asked for.
    """
    split = index.split(config.data.val_split)
    parts = Parts(
        labels=has_labels(config, split, required=not outputs.save_predictions),
        teacher=complete_teacher(config, split.name, split.tokens),
    )
    model = EvaluatedModel("student", config.eval.weights, weights.step, initialisation=initialisation)
    predict_fn = summary_fn(weights)
    with _loader(config, index, split, parts, full_batch(config.eval.batch_size, mesh)) as loader:
        return evaluate(
            predict_fn, loader, split, config, model=model, output_dir=output_dir, outputs=outputs, asked=asked
        )


def has_labels(config: Config, split: SplitIndex, *, required: bool) -> bool:
    """Whether there is anything to score a split by; a run that validates asks before its first step.

    Raises:
      UserError: no sample has labels, though they are required.
    """
    # Where some samples have labels, one that has none is an error of its own; where none has, it is data without.
    found = len(unlabelled_rows(config.data, split)) < len(split)
    if required and not found:
        labels = label_set(config.data.labels)
        raise UserError(
            f"split {split.name} has no {labels.name} labels in {labels_folder(labels, config.data)} to score by; set "
            "data.labels_dir to their folder or data.val_split to a split that has labels, or write predictions alone "
            "with --mode=eval --save-predictions"
        )
    return found


def _loader(config: Config, index: Index, split: SplitIndex, parts: Parts, batch_size: int):
    """This process's batches of the split; closed at the end of the `with`, however it comes."""
    return contextlib.closing(
        make_eval_loader(
            config,
            index,
            split.name,
            parts,
            batch_size=batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            max_samples=config.eval.max_samples,
        )
    )


def make_summary_fn(config: Config, mesh: Mesh, temperatures: tuple[float, ...] = OWN) -> SummaryFn:
    """Compiled forward pass and summary: by weights, a numpy batch in, this process's part of the summary out."""
    labels = label_set(config.data.labels)
    output = functools.partial(summarise, label_set=labels, use_camera_mask=True, temperatures=temperatures)
    return make_predictor(config, mesh, output)


def evaluate_teacher(config: Config, index: Index, *, split: str, output_dir: Path, outputs: Outputs) -> Evaluation:
    """Scores the teacher files of `config.data.teacher_dir` on a split.

    Voxels that the teacher does not know (outside of a resampled grid) are left out, and so are rays that meet one of
    them before anything else. Runs in one process.

    Raises:
      UserError: no teacher is configured, files of the split are absent, or the folder holds BEV maps only.
    """
    if not config.data.teacher_dir:
        raise UserError("no teacher to evaluate: set data.teacher_dir to a folder made by occjax convert-teacher")
    keyframes = index.split(split)
    teacher = complete_teacher(config, split, keyframes.tokens)
    # BEV maps alone say nothing about single voxels, which the protocols score.
    if teacher is None or not teacher.has_voxels:
        command = completing_command(config.data, config.data.teacher_dir)
        raise UserError(
            f"{config.data.teacher_dir} does not hold voxel logits of every sample; --mode=doctor counts what is "
            f"there, {command} adds what is missing"
        )
    labels, grid = label_set(config.data.labels), config.grid.build()
    predict_fn = functools.partial(_summarise_teacher, label_set=labels, grid=grid)
    model = EvaluatedModel("teacher", "", -1, scope="where the teacher knows")
    # One sample at a time: a dense teacher is as large as the logits.
    with _loader(config, index, keyframes, Parts(labels=True, teacher=teacher), 1) as loader:
        batches = _known_labels(loader)
        return evaluate(predict_fn, batches, keyframes, config, model=model, output_dir=output_dir, outputs=outputs)


def _known_labels(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Batches whose labels are unknown wherever the teacher is."""
    for batch in loader:
        labels, teacher = batch.labels, batch.teacher
        valid = teacher.voxels.valid if teacher is not None and teacher.voxels is not None else None
        if labels is not None and valid is not None:
            bits = np.unpackbits(valid, axis=-1, count=labels.semantics[0].size)
            known = bits.reshape(labels.semantics.shape).astype(bool)
            labels = labels._replace(semantics=np.where(known, labels.semantics, np.uint8(IGNORE)))
        yield batch._replace(labels=labels)


def _summarise_teacher(batch: Batch, label_set: LabelSet, grid: VoxelGrid) -> VoxelSummary:
    # Images stay on the host: the teacher has looked at them already.
    return jax.tree.map(np.asarray, _of_teacher(batch._replace(images=None), label_set, grid))


@functools.partial(jax.jit, static_argnames=("label_set", "grid"))
def _of_teacher(batch: Batch, label_set: LabelSet, grid: VoxelGrid) -> VoxelSummary:
    # Without the teacher, which would be compared with itself.
    log_probs, _ = jax.lax.map(lambda teacher: dense_teacher(teacher, grid.shape), batch.teacher)
    return summarise(log_probs, batch._replace(teacher=None), label_set=label_set, use_camera_mask=True)
