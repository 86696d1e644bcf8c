"""What one sample costs one core: our data path against the plain one, stage by stage, in alternation."""

import dataclasses
import logging
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from occjax.benchmark.plain_path import PlainPath, write_dense_teacher
from occjax.benchmark.timing import Stages
from occjax.config import AugmentConfig, Config
from occjax.data.errors import DataError
from occjax.data.file_source import FileSource
from occjax.data.index import SplitIndex
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.host_memory import keep_freed_memory

_SAMPLES = 6  # different ones, spread over the split
_SECONDS, _MIN_REPEATS, _MAX_REPEATS = 20.0, 5, 60
TOTAL = "total"
_log = logging.getLogger(__name__)


class LoaderCost(NamedTuple):
    """Processor time per sample, milliseconds, of stage name or TOTAL.

    Attributes:
      plain: of the plain path; None where the files that it reads are not there.
      ours: without geometric augmentation, which gives the same sample as the plain path.
      augmented: with the configuration's augmentation; None where that has no geometric one.
      ratio, augmented_ratio: medians of plain over ours, run by run.
      psnr_db: of our images against the plain path's, the lowest and the mean over images.
    """

    plain: Stages | None
    ours: Stages
    augmented: Stages | None
    ratio: float
    augmented_ratio: float
    psnr_db: tuple[float, float]


def measure_loader_cost(config: Config, split: SplitIndex, *, with_teacher: bool) -> LoaderCost:
    """Reads a few samples again and again, plain and ours in turn, so that load on the machine hits both.

    Files come from memory after the first time: this is the work of a core, not of the disk.

    Raises:
      SampleError: a file cannot be read.
    """
    rows = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int)).tolist()
    source = open_source(config, split, with_teacher=with_teacher)
    ours = _TimedReader(config, split, source, augment=None)
    is_augmented = dataclasses.replace(config.augment, photometric=True) != AugmentConfig()
    augmented = _TimedReader(config, split, source, augment=config.augment) if is_augmented else None
    keep_freed_memory()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="occjax-dense-teacher-") as folder:
            plain = _open_plain(config, split, rows, Path(folder), with_teacher=with_teacher)
            return _alternate(rows, plain, ours, augmented)
    finally:
        cv2.setNumThreads(threads)


class _TimedReader(SampleReader):
    """Books what its steps take; what is left of the total is augmentation of the grid, matrices and the batch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stages = Stages()

    def __call__(self, row: int, rng: np.random.Generator, *, is_valid: bool = True):
        return self.stages.run(TOTAL, super().__call__, row, rng)

    def _read_images(self, *args):
        return self.stages.run("images", super()._read_images, *args)

    def _read_depth(self, *args):
        return self.stages.run("depth", super()._read_depth, *args)

    def _read_labels(self, *args):
        return self.stages.run("labels", super()._read_labels, *args)

    def _read_teacher(self, *args):
        return self.stages.run("teacher", super()._read_teacher, *args)


def _open_plain(config: Config, split: SplitIndex, rows: list[int], folder: Path, *, with_teacher: bool):
    from_files = dataclasses.replace(config, data=dataclasses.replace(config.data, records_dir=""))
    try:
        source = open_source(from_files, split, with_teacher=with_teacher)
        assert isinstance(source, FileSource)
        teacher_files = write_dense_teacher(source, rows, folder) if with_teacher else {}
        plain = PlainPath(config, split, source, teacher_files)
        plain(rows[0], np.random.default_rng(0), Stages())
        return plain
    except DataError as error:
        if not config.data.records_dir:
            raise
        _log.warning("the plain path is not measured, it reads files that are not there: %s", error)
        return None


def _alternate(rows: list[int], plain: PlainPath | None, ours: SampleReader, augmented: SampleReader | None):
    rng = np.random.default_rng(0)
    plain_stages = Stages()
    errors: list[float] = []
    start = time.perf_counter()
    for repeat in range(_MAX_REPEATS):
        row = rows[repeat % len(rows)]
        # Twice each, and the first does not count: in training a path follows itself, not another one that has left
        # the caches full of its own arrays.
        if plain is not None:
            plain(row, rng, Stages())
            resized = plain_stages.run(TOTAL, plain, row, rng, plain_stages)
        for reader in (ours, augmented):
            if reader is not None:
                reader.stages, counted = Stages(), reader.stages
                batch = reader(row, rng)
                reader.stages = counted
                reader(row, rng)
            if reader is ours and plain is not None and repeat < len(rows):
                present = batch.images[batch.rig.is_present]
                errors += [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(present, resized, strict=True)]
        if repeat + 1 >= max(_MIN_REPEATS, len(rows)) and time.perf_counter() - start > _SECONDS:
            break
    psnr = [10 * np.log10(255**2 / max(error, 1e-9)) for error in errors] or [np.nan]
    return LoaderCost(
        plain=None if plain is None else plain_stages,
        ours=ours.stages,
        augmented=None if augmented is None else augmented.stages,
        ratio=_ratio(plain_stages, ours.stages),
        augmented_ratio=np.nan if augmented is None else _ratio(plain_stages, augmented.stages),
        psnr_db=(float(np.min(psnr)), float(np.mean(psnr))),
    )


def _ratio(plain: Stages, ours: Stages) -> float:
    totals = plain.seconds.get(TOTAL)
    return float(np.median(np.divide(totals, ours.seconds[TOTAL]))) if totals else float("nan")
