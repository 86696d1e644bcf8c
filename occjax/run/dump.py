"""Teacher files from a checkpoint of our own, so that a larger student teaches a smaller one (`--mode=dump`)."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from occjax.config import Config
from occjax.convert.dump.output import TeacherOutput
from occjax.data.index import Index, load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.errors import UserError
from occjax.predict.forward import full_batch, make_predictor, restore
from occjax.progress import Progress
from occjax.storage import versions
from occjax.targets.files import (
    MANIFEST_NAME,
    compact_teacher,
    sparse_from_probabilities,
    write_teacher,
)
from occjax.train.mesh import make_mesh
from occjax.types import Batch

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class DumpedFolder(TeacherOutput):
    """What a dump did; the files come from the run in `workdir`."""

    workdir: Path = Path()

    def summary(self) -> str:
        """What was written, and the option that learns from it."""
        size = f" of {self.bytes_written / self.written / 1e6:.3f} MB on average" if self.written else ""
        kept = f", {self.kept} were there" if self.kept else ""
        return (
            f"wrote {self.written} teacher files{size}{kept}\nwrote {self.folder / MANIFEST_NAME}\n"
            f"learn from them with --config.data.teacher_dir={self.folder}"
        )


def dump_workdir(config: Config, workdir: Path, output: Path, *, best: bool = False) -> DumpedFolder:
    """Writes a compact teacher file of every sample of the training and validation splits, and the manifest.

    The configured weights of the newest checkpoint (or the best one) predict on the model's grid, without
    augmentation; the BEV map follows from the voxels by the column rule. Files that the same checkpoint wrote before
    are kept, so that a dump that was cut off goes on. Runs in one process.

    Raises:
      UserError: no checkpoint, data that is not there, or `output` is taken or cannot be written.
    """
    mesh = make_mesh()
    weights = restore(config, workdir, mesh, best=best)
    index = load_index(config.data, fallback_dir=workdir)
    source = f"{workdir.resolve().name}, step {weights.step}, {config.eval.weights} weights"
    # By name and step, because the same step of the same run says the same: files of another one are another teacher.
    dump = DumpedFolder(output, source, config.grid.build(), workdir=workdir)
    _open(dump)
    predict_fn = make_predictor(config, mesh, _probabilities)(weights)
    batch_size = full_batch(config.eval.batch_size, mesh)
    try:
        for split in dict.fromkeys((config.data.train_split, config.data.val_split)):
            _dump_split(dump, config, index, split, predict_fn, batch_size)
    # Whatever ends it, the manifest counts what is there: training reads its largest count as a capacity.
    finally:
        _write_manifest(dump)
    return dump


def _probabilities(voxel_logits: Float[jax.Array, "b x y z k"], batch: Batch) -> Float[jax.Array, "b x y z k"]:
    return jax.nn.softmax(voxel_logits.astype(jnp.float32))


def _open(dump: DumpedFolder) -> None:
    """Counts what an earlier run left and writes the first manifest, which says whose files come next."""
    files = sorted(dump.folder.glob("*.npz"))
    previous = dump.previous("source", "form", "grid")
    if files and not previous:
        raise UserError(f"{dump.folder} holds .npz files but no {MANIFEST_NAME}; choose another --output")
    dump.keep(files, previous)
    dump.kinds = Counter(logits=dump.kept)  # which these files do not say themselves
    # First of all, so that files without a manifest are always somebody else's.
    _write_manifest(dump)


def _dump_split(
    dump: DumpedFolder,
    config: Config,
    index: Index,
    split: str,
    predict_fn: Callable[[Batch], np.ndarray],
    batch_size: int,
) -> None:
    """Writes the files of a split that are absent, and counts them in `dump`; `predict_fn` gives [B, X, Y, Z, K]."""
    tokens = index.split(split).tokens[: config.eval.max_samples or None]
    absent = {row for row, token in enumerate(tokens) if not (dump.folder / f"{token}.npz").exists()}
    if not absent:
        _log.info("split %s: all %d files are there", split, len(tokens))
        return
    # Images are all that a student needs to teach.
    loader = make_eval_loader(config, index, split, Parts(), batch_size=batch_size, max_samples=config.eval.max_samples)
    # Past the batches that are done: a dump that was cut off predicts nothing twice.
    loader.set_state({**loader.get_state(), "next_batch": min(absent) // batch_size})
    _log.info("split %s: %d of %d to write; the first batch waits for the compiler", split, len(absent), len(tokens))
    progress = Progress(f"split {split}", len(absent), _log.info, every_s=5.0, waits_for_compiler=True)
    try:
        for active, size in _written(loader, predict_fn, tokens, absent, dump):
            dump.add("logits", size, active)
            progress.advance()
    finally:
        loader.close()


def _written(
    loader: Iterator[Batch],
    predict_fn: Callable[[Batch], np.ndarray],
    tokens: list[str],
    absent: set[int],
    dump: DumpedFolder,
) -> Iterator[tuple[int, int]]:
    """Active voxels and bytes of each file; one batch is written while the next one is predicted, [B, X, Y, Z, K]."""
    pending: Iterable[tuple[int, int]] = ()
    with ThreadPoolExecutor() as pool:
        for batch in loader:
            rows = batch.sample_index.tolist()
            # The last batch is padded, and the first one may be half done.
            wanted = [i for i in np.flatnonzero(batch.is_valid).tolist() if rows[i] in absent]
            if not wanted:
                continue
            probabilities = predict_fn(batch)
            yield from pending
            pending = pool.map(partial(_write, dump), [tokens[rows[i]] for i in wanted], probabilities[wanted])
        yield from pending


def _write(dump: DumpedFolder, token: str, probabilities: Float[np.ndarray, "x y z k"]) -> tuple[int, int]:
    # In a thread: numpy and the disk let go of the interpreter, and the device goes on.
    sparse = sparse_from_probabilities(probabilities)
    path = dump.folder / f"{token}.npz"
    try:
        size = write_teacher(path, compact_teacher(token, dump.grid, sparse))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; make room and run the same command again") from error
    return len(sparse.index), size


def _write_manifest(dump: DumpedFolder) -> None:
    dump.write_manifest(workdir=str(dump.workdir), versions=versions())
