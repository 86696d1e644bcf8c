"""Cost of one sample on one core: our data path against the plain one, stage by stage, in alternation."""

import dataclasses
import functools
import logging
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from occjax.benchmark.plain_augmentation import draw_augmentation
from occjax.benchmark.plain_path import PlainPath, write_dense_teacher
from occjax.benchmark.timing import StageTimes
from occjax.config import AugmentConfig, Config
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import SampleSource, open_source
from occjax.errors import DataError
from occjax.system.cpu import keep_freed_memory

_SAMPLES = 6  # different ones, spread over the split
# A busy machine needs many runs for a median that holds; a slow one ends with the time.
_SECONDS, _MIN_REPEATS, _MAX_REPEATS = 20.0, 5, 60
TOTAL = "total"
_log = logging.getLogger(__name__)


class PathCost(NamedTuple):
    """Processor time per sample of both paths for the same output, by stage name or TOTAL.

    Attributes:
      plain: None where the files that the plain path reads are not there.
      ours: of ours.
      ratio: median of plain over ours, run by run.
      psnr_db: of our images against the plain path's, the lowest and the mean over images.
    """

    plain: StageTimes | None
    ours: StageTimes
    ratio: float
    psnr_db: tuple[float, float]


class LoaderCost(NamedTuple):
    """Without geometric augmentation, and with the configuration's; None where it has none."""

    unaugmented: PathCost
    augmented: PathCost | None


def measure_loader_cost(config: Config, split: SplitIndex, parts: Parts) -> LoaderCost:
    """Reads a few samples again and again, plain and ours in turn, so that load on the machine hits both.

    Files come from memory after the first time: this is the work of a core, not of the disk.

    Raises:
      SampleError: a file cannot be read.
    """
    # Rows from all over the split: scenes by night or in rain have smaller images.
    rows = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int)).tolist()
    source = open_source(config.data, split, parts)
    keep_freed_memory()  # as loader processes do
    # As in a loader process; both paths are measured on one core.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="occjax-dense-teacher-") as folder:
            plain = _open_plain(config, source, rows, Path(folder))
            unaugmented = _alternate(config, source, rows, plain, is_augmented=False)
            # Colours are not the reader's business.
            if dataclasses.replace(config.augment, photometric=True) == AugmentConfig():
                return LoaderCost(unaugmented, None)
            return LoaderCost(unaugmented, _alternate(config, source, rows, plain, is_augmented=True))
    finally:
        cv2.setNumThreads(threads)


def _timed(reader: SampleReader, stages: StageTimes) -> SampleReader:
    """The reader, its steps booked; what is left of the total is augmentation of the grid, matrices and the batch."""
    for stage in ("images", "depth", "labels", "teacher"):
        setattr(reader, f"read_{stage}", functools.partial(stages.run, stage, getattr(reader, f"read_{stage}")))
    return reader


def _open_plain(config: Config, source: SampleSource, rows: list[int], folder: Path) -> PlainPath | None:
    try:
        teacher_files = write_dense_teacher(source, rows, folder) if source.parts.teacher else {}
        plain = PlainPath(config, source, teacher_files)
        plain(rows[0], np.random.default_rng(0), StageTimes())
        return plain
    except DataError as error:
        if not config.data.records_dir:  # which need no files beside them
            raise
        _log.warning("the plain path is not measured, it reads files that are not there: %s", error)
        return None


def _alternate(
    config: Config, source: SampleSource, rows: list[int], plain: PlainPath | None, *, is_augmented: bool
) -> PathCost:
    augment = config.augment if is_augmented else None
    colours, stages, ours = np.random.default_rng(0), StageTimes(), StageTimes()
    reader = SampleReader(config, source, augment=augment)
    timed = _timed(SampleReader(config, source, augment=augment), ours)
    errors: list[float] = []
    start = time.perf_counter()
    for repeat in range(_MAX_REPEATS):
        row, resized = rows[repeat % len(rows)], []
        # Twice each, and the first does not count: in training a path follows itself, not another one that has left
        # the caches full of its own arrays.
        if plain is not None:
            augmentation = draw_augmentation(np.random.default_rng(repeat), config) if is_augmented else None
            plain(row, colours, StageTimes(), augmentation)
            resized = stages.run(TOTAL, plain, row, colours, stages, augmentation).resized
        reader(row, np.random.default_rng(repeat))
        batch = ours.run(TOTAL, timed, row, np.random.default_rng(repeat))
        if plain is not None and repeat < len(rows):
            present = batch.images[batch.rig.is_present]
            errors += [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(present, resized, strict=True)]
        if repeat + 1 >= max(_MIN_REPEATS, len(rows)) and time.perf_counter() - start > _SECONDS:
            break
    psnr = [10 * np.log10(255**2 / max(error, 1e-9)) for error in errors] or [np.nan]
    ratios = np.nan if plain is None else np.divide(stages.seconds[TOTAL], ours.seconds[TOTAL])
    return PathCost(
        plain=None if plain is None else stages,
        ours=ours,
        # Run by run: whatever else the machine does hits the two paths of one run alike.
        ratio=float(np.median(ratios)),
        psnr_db=(float(np.min(psnr)), float(np.mean(psnr))),
    )
