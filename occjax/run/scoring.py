"""Scoring pass over a split: batches in, protocol scores, pictures and metrics.json out."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from occjax.config import Config, EvalConfig
from occjax.data.index import SplitIndex
from occjax.drawing.page import write_page
from occjax.label_sets import label_set
from occjax.metrics.across_processes import merge_over_processes
from occjax.metrics.calibration import OWN
from occjax.metrics.combined import CombinedScores, ScoredSample, TeacherAnswer
from occjax.metrics.on_device import VoxelSummary
from occjax.metrics.prediction_files import write_prediction
from occjax.metrics.rayiou import ray_origins_m
from occjax.metrics.report import full_table, results_dict
from occjax.predict.forward import full_batch, in_advance
from occjax.run.initialisation import said_of
from occjax.run.sample_sheet import title_of, write_sheet
from occjax.run.scene_frame import packed_frame
from occjax.storage import remove_abandoned, versions, write_json, writing
from occjax.system.mesh import make_mesh
from occjax.system.processes import from_first, is_first, wait_for_all
from occjax.system.progress import Progress
from occjax.system.stop_requests import StopRequested
from occjax.types import Batch

_log = logging.getLogger(__name__)
PAGE_NAME = "scene.html"

# By what signal a run is asked to stop, 0 = by none; given whether all of its processes ask in the same place. If not,
# one process of several is never asked: it would stop alone.
Asked = Callable[[bool], int]


class EvaluatedModel(NamedTuple):
    """What is evaluated, for headings and, field by field, metrics.json.

    Attributes:
      subject: "student" or "teacher".
      weights: "ema", "raw", or "" where there are none.
      step: of the checkpoint, -1 where there is none.
      scope: which voxels are scored, where it is not all that the protocol counts.
      initialisation: what the weights started from, as config.json holds it; None where that is not known.
    """

    subject: str
    weights: str
    step: int
    scope: str = ""
    initialisation: dict[str, str] | None = None


class Outputs(NamedTuple):
    """What one pass produces beside scores.

    Attributes:
      pictures: how many samples, evenly spread over the split, are drawn into `output_dir`/pictures and shown in
        `output_dir`/scene.html.
      save_predictions: whether `output_dir`/predictions gets a file per sample.
      rayiou: whether RayIoU is computed; on Occ3D's full grid only, elsewhere it has no meaning and is left out.
      temperatures: that calibration is counted at, as `predict_fn` counts it.
    """

    pictures: int = 0
    save_predictions: bool = False
    rayiou: bool = False
    temperatures: tuple[float, ...] = OWN


class Evaluation(NamedTuple):
    """Outcome of one pass.

    Attributes:
      results: content of metrics.json; empty where there were no labels to score by.
      table: for people.
      files: what was written, in the order to name it.
    """

    results: dict
    table: str
    files: tuple[Path, ...]

    @property
    def scalars(self) -> dict[str, float]:
        """Per cent by name ("miou", "iou", ..., by the protocol's own mask); undefined values are left out."""
        if not self.results:
            return {}
        agreement = self.results["teacher_agreement"] or {}
        parts = [
            *reversed(self.results["protocols"]),  # so that the first, by the protocol's own mask, has the last word
            {f"teacher_{name}": value for name, value in agreement.items()},
            {"occupancy_calibration_error": self.results["occupancy_calibration_error"]},
        ]
        return {name: value for part in parts for name, value in part.items() if isinstance(value, float)}

    def summary(self, workdir: Path) -> str:
        """The table and where everything is; `workdir` is the folder of the run."""
        return "\n".join([self.table, "", f"run: {workdir}", *(f"wrote {path}" for path in self.files)])


def completed_evaluation(output_dir: Path, config: EvalConfig, split: SplitIndex, step: int) -> Evaluation | None:
    """What a pass over this split, by this configuration, of this step left in its folder, predictions aside.

    None where it is not there or damaged. Every process of a run calls it, and the first one looks.
    """
    samples = min(len(split), config.max_samples or len(split))
    wanted = {"step": step, "weights": config.weights, "split": split.name, "samples": samples}

    def read() -> tuple[dict, str, list[str]] | None:
        metrics_path = output_dir / "metrics.json"
        try:
            results = json.loads(metrics_path.read_text(encoding="utf-8"))
            table = (output_dir / "table.txt").read_text(encoding="utf-8")
            _ = results["protocols"][0], Evaluation(results, table, ()).scalars  # there, and of their kind
            is_wanted = wanted.items() <= results.items()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        pictures = sorted(str(path) for path in (output_dir / "pictures").glob("*.png"))
        pages = [str(path) for path in output_dir.glob(PAGE_NAME)]
        is_whole = is_wanted and len(pictures) >= min(config.pictures, samples)
        return (results, table, [str(metrics_path), *pictures, *pages]) if is_whole else None

    found = from_first(read)
    return None if found is None else Evaluation(found[0], found[1], tuple(map(Path, found[2])))


def evaluate(
    predict_fn: Callable[[Batch], VoxelSummary],
    loader: Iterable[Batch],
    split: SplitIndex,
    config: Config,
    *,
    model: EvaluatedModel,
    output_dir: Path,
    outputs: Outputs,
    asked: Asked = lambda together: 0,
) -> Evaluation:
    """Scores predictions by the protocol of `config.data.labels`, or only writes them where batches have no labels.

    In a distributed run every process calls it with its own part of the split; scores are merged, and process 0 alone
    writes metrics.json.

    Args:
      predict_fn: a batch of numpy arrays to `occjax.metrics.on_device.summarise` of it, as numpy arrays of the same
        samples.
      loader: `make_eval_loader` of the same configuration, its `eval.max_samples` included, and split.
      split: keyframes that `Batch.sample_index` points into.
      config: label set, grid, cameras.
      model: what is evaluated.
      output_dir: gets metrics.json, table.txt, pictures and predictions; those of an earlier pass that this one writes
        anew are removed first, so that a pass that breaks off leaves no metrics.json, and none mixes two passes.
      outputs: what is produced beside scores.
      asked: see `Asked`; the pass is given up after the batch in hand.

    Raises:
      GridMismatchError: the model's grid is no crop of the label set's grid.
      StopRequested: the pass was given up.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    if is_first():
        _remove_old(output_dir, outputs)
    # Else process 0 might remove what a faster one has written already.
    wait_for_all()
    grid = config.grid.build()
    num_samples = min(len(split), config.eval.max_samples or len(split))
    labels = label_set(config.data.labels)
    state = CombinedScores.empty(labels, grid, rayiou=outputs.rayiou, temperatures=outputs.temperatures)
    # Spread over the split rather than its first samples, which are half a second of one scene.
    drawn = set(np.linspace(0, num_samples - 1, min(outputs.pictures, num_samples)).astype(int).tolist())
    pictures, frames = [], []
    first_batch = full_batch(config.eval.batch_size, make_mesh())
    progress = Progress(f"evaluating {split.name}", num_samples, _log.info, untimed=first_batch)
    _log.info("evaluating %d samples of split %s; the first batch waits for the compiler", num_samples, split.name)
    for batch, summary in in_advance(predict_fn, loader, lambda: asked(False)):
        # The last batch is filled up with samples that were scored already.
        for i in np.flatnonzero(batch.is_valid).tolist():
            row = int(batch.sample_index[i])
            # Out of the batch once, for scores, file and picture alike: what is seen is what was scored.
            sample = scored_sample(batch, summary, i)
            state = state.update(sample, None if state.rayiou is None else ray_origins_m(split, row))
            if outputs.save_predictions:
                write_prediction(output_dir / "predictions", split.tokens[row], sample.prediction, grid)
            if row in drawn:
                caption = "prediction" if model.subject == "student" else model.subject
                sheet = write_sheet(
                    batch.images[i], sample, config, split, row, output_dir / "pictures", caption=caption
                )
                pictures.append(sheet)
                # Each process draws samples of its own; the page is the first one's.
                if is_first():
                    frames.append(packed_frame(batch, summary, i, config, split, row, title=title_of(split, row)))
            # The other processes are about as far as this one, which tells for all of them.
            progress.advance(jax.process_count())
        if number := asked(True):
            raise StopRequested(number)
    # Every process comes here, with samples or without: the gathering waits for all.
    state = merge_over_processes(state)
    files = [output_dir / "predictions"] if outputs.save_predictions else []
    files += pictures
    # Last, where it is seen best.
    if frames:
        cameras, title = tuple(config.data.cameras), f"{config.name}, {model.subject} on split {split.name}"
        files.append(write_page(output_dir / PAGE_NAME, frames, grid, title=title, camera_names=cameras))
    if not state.predictions.samples:
        return Evaluation({}, f"nothing to score: split {split.name} has no {config.data.labels} labels", tuple(files))
    results = {
        "name": config.name,
        **model._asdict(),
        "labels": config.data.labels,
        "split": split.name,
        "split_samples": len(split),  # fewer than that are no score of the split
        "grid": grid.to_dict(),
        **results_dict(state),
        "versions": versions(),
    }
    # The teacher's files have neither weights nor step.
    weights = ""
    if model.weights:
        weights = f", {model.weights} weights of step {model.step}, from {said_of(model.initialisation)}"
    scope = f", {model.scope}" if model.scope else ""
    part = f", its first {num_samples} of {len(split)} samples only" if num_samples < len(split) else ""
    table = full_table(state, heading=model.subject, about=f"split {split.name}{part}{weights}{scope}")
    metrics_path = output_dir / "metrics.json"
    if is_first():
        with writing(output_dir / "table.txt") as scratch:
            scratch.write_text(table, encoding="utf-8")
        # Last: it says that the pass was completed.
        write_json(metrics_path, results)
    return Evaluation(results, table, (metrics_path, *files))


def _remove_old(output_dir: Path, outputs: Outputs) -> None:
    # metrics.json first: it says that a pass was completed, and must not outlive what it speaks of.
    stale = [output_dir / "metrics.json", output_dir / "table.txt"]
    stale += [output_dir / PAGE_NAME, *(output_dir / "pictures").glob("*.png")] if outputs.pictures else []
    stale += (output_dir / "predictions").glob("*.npz") if outputs.save_predictions else []
    for path in stale:
        path.unlink(missing_ok=True)
    remove_abandoned(output_dir, output_dir / "pictures", output_dir / "predictions")


def scored_sample(batch: Batch, summary: VoxelSummary, i: int) -> ScoredSample:
    """Row `i` of a batch and its summary."""
    labels, teacher = batch.labels, summary.teacher
    return ScoredSample(
        prediction=np.asarray(summary.semantics[i]),
        truth=None if labels is None else labels.semantics[i],
        camera_mask=None if labels is None or labels.camera_mask is None else labels.camera_mask[i],
        calibration=jax.tree.map(lambda part: np.asarray(part[i]), summary.calibration),
        teacher=None
        if teacher is None
        else TeacherAnswer(*(np.asarray(part[i]) for part in (teacher.semantics, teacher.known, teacher.kl_sum))),
    )
