"""The teacher's scores, by the same pass and protocol as the student's: what distillation can hope for."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from occjax.classes import IGNORE
from occjax.config import Config
from occjax.data.index import Index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.errors import UserError
from occjax.label_sets import LabelSet, label_set
from occjax.metrics.on_device import VoxelSummary, dense_teacher, summarise
from occjax.run.scoring import Evaluation, Options, Subject, evaluate
from occjax.targets.commands import completing_command
from occjax.targets.reader import complete_teacher
from occjax.types import Batch


def evaluate_teacher(config: Config, index: Index, *, split: str, output_dir: Path, options: Options) -> Evaluation:
    """Scores the teacher files of `config.data.teacher_dir` on a split.

    Voxels that the teacher does not know (outside of a resampled grid) are left out, and so are rays that meet one of
    them before anything else. Runs in one process.

    Raises:
      UserError: no teacher is configured, files of the split are absent, or the folder holds BEV maps only.
    """
    if not config.data.teacher_dir:
        raise UserError("no teacher to evaluate: set data.teacher_dir to a folder made by converters/teacher_to_npz.py")
    keyframes = index.split(split)
    teacher = complete_teacher(config, split, keyframes.tokens)
    if teacher is None or not teacher.has_voxels:
        command = completing_command(config.data, config.data.teacher_dir)
        raise UserError(
            f"{config.data.teacher_dir} does not hold voxel logits of every sample; --mode=doctor counts what is "
            f"there, {command} adds what is missing"
        )
    parts = Parts(labels=True, teacher=teacher)
    loader = make_eval_loader(config, index, split, parts, batch_size=1, max_samples=config.eval.max_samples)
    try:
        return evaluate(
            functools.partial(_summary, label_set=label_set(config.data.labels)),
            _known_labels(loader),
            keyframes,
            config,
            subject=Subject("teacher", "", -1, scope="where the teacher knows"),
            output_dir=output_dir,
            options=options,
            num_samples=min(len(keyframes), config.eval.max_samples or len(keyframes)),
        )
    finally:
        loader.close()


def _known_labels(loader: Iterator[Batch]) -> Iterator[Batch]:
    """Batches whose labels are unknown wherever the teacher is."""
    for batch in loader:
        semantics = batch.labels.semantics
        if batch.teacher.valid is not None:
            bits = np.unpackbits(batch.teacher.valid, axis=-1, count=semantics[0].size)
            semantics = np.where(bits.reshape(semantics.shape).astype(bool), semantics, np.uint8(IGNORE))
        yield batch._replace(labels=batch.labels._replace(semantics=semantics))


def _summary(batch: Batch, *, label_set: LabelSet) -> VoxelSummary:
    return jax.tree.map(np.asarray, _summarise_teacher(batch._replace(images=None, rig=None), label_set))


@functools.partial(jax.jit, static_argnames="label_set")
def _summarise_teacher(batch: Batch, label_set: LabelSet) -> VoxelSummary:
    shape = batch.labels.semantics.shape[1:]
    log_probs, _ = jax.lax.map(lambda teacher: dense_teacher(teacher, shape), batch.teacher)
    return summarise(log_probs, batch._replace(teacher=None), label_set=label_set, use_camera_mask=True)
