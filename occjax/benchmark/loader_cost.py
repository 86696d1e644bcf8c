"""Cost of one sample on one core: our data path against the plain one, stage by stage, in alternation."""

import dataclasses
import logging
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from occjax.benchmark.plain_augmentation import PlainAugmentation, draw_augmentation
from occjax.benchmark.plain_path import PlainPath, write_dense_teacher
from occjax.benchmark.timing import StageTimes
from occjax.config import AugmentConfig, Config
from occjax.cpu import keep_freed_memory
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import SampleSource, open_source
from occjax.errors import DataError

_SAMPLES = 6  # different ones, spread over the split
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
    rows = np.unique(np.linspace(0, len(split) - 1, _SAMPLES).astype(int)).tolist()
    source = open_source(config.data, split, parts)
    keep_freed_memory()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="occjax-dense-teacher-") as folder:
            plain = _open_plain(config, source, rows, Path(folder))
            unaugmented = _alternate(rows, plain, _TimedReader(config, source, augment=None), None)
            # Colours are not the reader's business.
            if dataclasses.replace(config.augment, photometric=True) == AugmentConfig():
                return LoaderCost(unaugmented, None)
            reader = _TimedReader(config, source, augment=config.augment)
            return LoaderCost(unaugmented, _alternate(rows, plain, reader, config))
    finally:
        cv2.setNumThreads(threads)


class _TimedReader(SampleReader):
    """Books what its steps take; what is left of the total is augmentation of the grid, matrices and the batch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stages = StageTimes()

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


def _alternate(rows: list[int], plain: PlainPath | None, ours: "_TimedReader", augmenting: Config | None) -> PathCost:
    colours = np.random.default_rng(0)
    stages = StageTimes()
    errors: list[float] = []
    start = time.perf_counter()
    for repeat in range(_MAX_REPEATS):
        row = rows[repeat % len(rows)]
        # Twice each, and the first does not count: in training a path follows itself, not another one that has left
        # the caches full of its own arrays.
        if plain is not None:
            augmentation = _draw(augmenting, repeat)
            plain(row, colours, StageTimes(), augmentation)
            resized = stages.run(TOTAL, plain, row, colours, stages, augmentation).resized
        ours.stages, counted = StageTimes(), ours.stages
        ours(row, np.random.default_rng(repeat))
        ours.stages = counted
        batch = ours(row, np.random.default_rng(repeat))
        if plain is not None and repeat < len(rows):
            present = batch.images[batch.rig.is_present]
            errors += [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(present, resized, strict=True)]
        if repeat + 1 >= max(_MIN_REPEATS, len(rows)) and time.perf_counter() - start > _SECONDS:
            break
    psnr = [10 * np.log10(255**2 / max(error, 1e-9)) for error in errors] or [np.nan]
    ratios = np.divide(stages.seconds[TOTAL], ours.stages.seconds[TOTAL]) if plain is not None else np.nan
    return PathCost(
        plain=None if plain is None else stages,
        ours=ours.stages,
        ratio=float(np.median(ratios)),
        psnr_db=(float(np.min(psnr)), float(np.mean(psnr))),
    )


def _draw(config: Config | None, seed: int) -> PlainAugmentation | None:
    """What the reader draws from the same seed."""
    if config is None:
        return None
    return draw_augmentation(
        np.random.default_rng(seed),
        config.augment,
        cameras=len(config.data.cameras),
        width=config.data.image_width,
        height=config.data.image_height,
    )
