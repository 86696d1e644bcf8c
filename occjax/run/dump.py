"""Teacher files from a checkpoint of our own, so that a larger student teaches a smaller one (`--mode=dump`)."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16

from occjax.config import Config
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import TeacherOutput
from occjax.convert.dump.sample import SampleResult, SampleTask, read_truth, write_sample
from occjax.convert.dump.scores import scores_of
from occjax.convert.dump.surface import SurfaceOptions
from occjax.convert.dump.surface_manifest import SurfaceSource, surface_manifests, write_manifests
from occjax.convert.dump.tasks import (
    keyframes,
    remove_leftovers,
    require_labels,
    row_of,
    sample_tasks,
    without_completed,
)
from occjax.convert.dump.values import PROBABILITIES
from occjax.data.index import Index, load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.errors import UserError
from occjax.predict.forward import full_batch, make_predictor
from occjax.predict.stored_weights import restore
from occjax.storage import remove_abandoned, versions
from occjax.system.mesh import make_mesh
from occjax.system.progress import Progress
from occjax.targets.files import MANIFEST_NAME
from occjax.types import Batch

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class DumpedFolder(TeacherOutput):
    """What a dump did.

    Attributes:
      workdir: of the run that the files come from.
      partial: how many samples of which split were asked for, where it is not all; empty where it is.
    """

    workdir: Path = Path()
    partial: str = ""

    def summary(self) -> str:
        """What was written, and the option that learns from it."""
        size = f" of {self.bytes_written / self.written / 1e6:.3f} MB on average" if self.written else ""
        kept = f", {self.kept} were there" if self.kept else ""
        partial = (
            f"partial: {self.partial}, by eval.max_samples; the rest is added by the same command with "
            "--config.eval.max_samples=0\n"
        )
        return (
            f"{partial if self.partial else ''}"
            f"wrote {self.written} teacher files{size}{kept}\nwrote {self.folder / MANIFEST_NAME}\n"
            f"learn from them with --config.data.teacher_dir={self.folder}"
        )


def dump_workdir(
    config: Config, workdir: Path, output: Path, *, best: bool = False, surface: SurfaceOptions | None = None
) -> DumpedFolder:
    """Writes a compact teacher file of every sample of the training and validation splits, and the manifest.

    The configured weights of the newest checkpoint (or the best one) predict on the model's grid, without
    augmentation; the BEV map follows from the voxels by the column rule. Samples that the same checkpoint completed
    before are kept, so that a dump that was cut off goes on. Runs in one process.

    Args:
      config: of the run.
      workdir: of the run.
      output: folder of the teacher files.
      best: see above.
      surface: what to write of the dump surface besides.

    Raises:
      UserError: no checkpoint, data that is not there, or a folder is taken or cannot be written.
    """
    mesh = make_mesh()
    weights = restore(config, workdir, mesh, best=best)
    index = load_index(config.data, fallback_dir=workdir)
    source = f"{workdir.resolve().name}, step {weights.step}, {config.eval.weights} weights"
    # By name and step, because the same step of the same run says the same: files of another one are another teacher.
    dump = DumpedFolder(output, source, config.grid.build(), workdir=workdir)
    options = DumpOptions(
        splits=tuple(dict.fromkeys((config.data.train_split, config.data.val_split))),
        grid=dump.grid,
        max_samples=config.eval.max_samples or -1,
        skip_existing=True,
        voxel_kind=PROBABILITIES,
        surface=surface or SurfaceOptions(),
    )
    dump.require_own()
    previous = dump.previous("source", "form", "grid")
    made = SurfaceSource(source, "position in the split", {"workdir": str(workdir)})
    manifests = surface_manifests(made, options, taken=output)
    tasks = sample_tasks(keyframes(index, options), output, index, config.data, options)
    require_labels(tasks)
    absent = without_completed(tasks)
    dump.make_folder()
    remove_leftovers(absent)
    remove_abandoned(output)
    dump.keep_but({task.target for task in absent}, previous)
    counts = {split: len(index.split(split)) for split in options.splits}
    if dump.kept + len(absent) < sum(counts.values()):
        some = {split: min(config.eval.max_samples, count) for split, count in counts.items()}
        parts = (f"{some[split]} of {count} samples of split {split}" for split, count in counts.items())
        dump.partial = " and ".join(parts)
    # First of all, so that files without a manifest are always somebody else's.
    _write_manifest(dump)
    write_manifests(manifests)
    predict_fn = make_predictor(config, mesh, _probabilities)(weights)
    batch_size = full_batch(config.eval.batch_size, mesh)
    try:
        for split in options.splits:
            of_split = [task for task in absent if task.file.split == split]
            _dump_split(dump, config, index, split, of_split, predict_fn, batch_size)
    # Whatever ends it, the manifest counts what is there: training reads its largest count as a capacity.
    finally:
        _write_manifest(dump)
    return dump


def _probabilities(voxel_logits: Float[jax.Array, "b x y z k"], batch: Batch) -> Float16[jax.Array, "b x y z k"]:
    # Rounded here: teacher file and dump are made from the same numbers.
    return jax.nn.softmax(voxel_logits.astype(jnp.float32)).astype(jnp.float16)


def _dump_split(
    dump: DumpedFolder,
    config: Config,
    index: Index,
    split: str,
    tasks: list[SampleTask],
    predict_fn: Callable[[Batch], np.ndarray],
    batch_size: int,
) -> None:
    """Writes the samples of a split that are absent, and counts them in `dump`; `predict_fn` gives [B, X, Y, Z, K]."""
    count = min(len(index.split(split)), config.eval.max_samples or len(index.split(split)))
    if not tasks:
        _log.info("split %s: all %d files are there", split, count)
        return
    absent = {row_of(task): task for task in tasks}
    # Images are all that a student needs to teach.
    loader = make_eval_loader(config, index, split, Parts(), batch_size=batch_size, max_samples=config.eval.max_samples)
    # Past the batches that are done: a dump that was cut off predicts nothing twice.
    loader.set_state({**loader.get_state(), "next_batch": min(absent) // batch_size})
    _log.info("split %s: %d of %d to write; the first batch waits for the compiler", split, len(absent), count)
    progress = Progress(f"split {split}", len(absent), _log.info, every_s=5.0, untimed=batch_size)
    try:
        for written in _written(loader, predict_fn, absent):
            dump.add(written.kind, written.bytes_written, written.active)
            progress.advance()
    finally:
        loader.close()


def _written(
    loader: Iterator[Batch], predict_fn: Callable[[Batch], np.ndarray], absent: dict[int, SampleTask]
) -> Iterator[SampleResult]:
    """What became of each absent sample, by row; one batch is written while the next one is predicted."""
    pending: Iterable[SampleResult] = ()
    with ThreadPoolExecutor() as pool:
        for batch in loader:
            rows = batch.sample_index.tolist()
            # The last batch is padded, and the first one may be half done.
            wanted = [i for i in np.flatnonzero(batch.is_valid).tolist() if rows[i] in absent]
            if not wanted:
                continue
            probabilities = predict_fn(batch)
            yield from pending
            pending = pool.map(_write, [absent[rows[i]] for i in wanted], probabilities[wanted])
        yield from pending


def _write(task: SampleTask, probabilities: Float16[np.ndarray, "x y z k"]) -> SampleResult:
    # In a thread: numpy and the disk let go of the interpreter, and the device goes on.
    truth = read_truth(task) if task.options.surface.needs_truth else None
    try:
        return write_sample(task, scores_of(probabilities, task.options), truth)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or task.target}: {error.strerror}; make room and run the same command again"
        ) from error


def _write_manifest(dump: DumpedFolder) -> None:
    dump.write_manifest(workdir=str(dump.workdir), partial=dump.partial, versions=versions())
