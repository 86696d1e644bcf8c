"""Cost and loss of compact files: their size, their distance to the dump, the time to read one back."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from occjax.classes import NUM_CLASSES
from occjax.convert.dump.sample import SampleTask
from occjax.convert.dump.scores import VoxelScores, read_bev, read_voxels
from occjax.convert.dump.values import dense_log_probs
from occjax.grid import VoxelGrid
from occjax.targets import moving
from occjax.targets.codec import decode_rows, floored_log_probs, kl_divergence
from occjax.targets.files import CompactTeacher, read_teacher
from occjax.targets.folder import TeacherFolder, read_manifest
from occjax.types import TeacherTargets

# The first read of a file pays for the disk, a later one may be disturbed: the fastest counts.
_READS = 5


def dump_kl(task: SampleTask) -> float:
    """Mean KL(dump || file) in nats over all voxels, or over all cells of a BEV map, of a task that is done.

    The file must be compact and on the dump's own grid.
    """
    if task.file.voxels is not None:
        return compact_kl(task.target, read_voxels(task.file.voxels, task.options))
    bev = _read(task.target).bev
    assert bev is not None
    dumped = floored_log_probs(read_bev(task.file.path, task.options)[0])
    return float(kl_divergence(dumped, decode_rows(bev.free, bev.levels, NUM_CLASSES)).mean())


def compact_kl(path: Path, scores: VoxelScores) -> float:
    """Mean KL(scores || file) in nats over all voxels of a compact file on the grid of the scores."""
    # Both sides floored alike, or the KL would measure the floor.
    wanted = floored_log_probs(np.exp(dense_log_probs(scores.planes, scores.kind).astype(np.float32)))
    decoded = moving.dense_log_probs(_read(path), (len(wanted), 1, 1)).reshape(wanted.shape)
    return float(kl_divergence(wanted, decoded).mean())


def _read(path: Path) -> TeacherTargets:
    written = read_teacher(path)
    assert isinstance(written, CompactTeacher)
    return written.codes


def decode_ms(directory: Path, tokens: list[str]) -> float:
    """Processor time in milliseconds from a file of a teacher folder to training targets, median over the samples."""
    folder = TeacherFolder(directory, VoxelGrid.from_dict(read_manifest(directory)["grid"]))
    return 1e3 * float(np.median([fastest_s(partial(folder.read, token), _READS) for token in tokens]))


def fastest_s(function: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Least time of several calls, of the processor by default: other work on the machine only ever adds to it."""

    def seconds() -> float:
        started = clock()
        function()
        return clock() - started

    return min(seconds() for _ in range(repeats))
