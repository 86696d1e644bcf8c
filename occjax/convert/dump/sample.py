"""One sample: its scores decided on and written, as a teacher file and as files of the dump surface."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from occjax.classes import FREE
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.listing import DumpFile
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.resample import resample_sparse
from occjax.convert.dump.scores import VoxelScores, read_bev, read_voxels
from occjax.convert.dump.surface_files import Scene, surface_paths, write_surface
from occjax.convert.dump.values import dense_log_probs
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet
from occjax.targets.codec import floored_log_probs
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.files import DenseTeacher, SparseTeacher, compact_teacher, write_teacher

# Classes and where they count.
Truth = tuple[UInt8[np.ndarray, "x y z"], Bool[np.ndarray, "x y z"]]


class SampleTask(NamedTuple):
    """What a worker needs for one sample.

    Attributes:
      token: the sample's token.
      file: its files in the dump.
      output: folder of the teacher files.
      options: of the run.
      dump_from_output: float64 [4, 4] transform of points from the output grid's frame to the dump's, or None.
      labels: label set and file of this sample's truth, or None.
    """

    token: str
    file: DumpFile
    output: Path
    options: DumpOptions
    dump_from_output: np.ndarray | None
    labels: tuple[LabelSet, Path] | None

    @property
    def target(self) -> Path:
        """The teacher file that it writes."""
        return self.output / f"{self.token}.npz"

    @property
    def surface_paths(self) -> dict[str, Path]:
        """The files of the dump surface that it writes, by kind."""
        file, options = self.file, self.options
        return surface_paths(options.surface, file.split, file.id, scores_type=options.dump_3d_type)


class SampleResult(NamedTuple):
    """What became of a task.

    Attributes:
      problem: why nothing was written; empty = done.
      kind: value kind of the input.
      bytes_written: size of the teacher file.
      active: active voxels.
    """

    problem: str
    kind: str
    bytes_written: int
    active: int


def hard_labels(sparse: SparseTeacher, grid: VoxelGrid) -> np.ndarray:
    """uint8 [X, Y, Z] most likely class."""
    # What has no row is plainly free.
    labels = np.full(grid.num_voxels, FREE, np.uint8)
    labels[sparse.index] = sparse.rows.argmax(1)
    return labels.reshape(grid.shape)


def convert_sample(task: SampleTask) -> SampleResult:
    """Writes one sample of a dump: teacher file and dump surface; a bad input becomes a SampleResult with a problem."""
    try:
        # Before anything is written: a sample whose truth cannot be read gives nothing at all.
        truth = read_truth(task) if task.options.surface.needs_truth else None
        if task.file.voxels is None:
            return _write_map(task, truth)
        return write_sample(task, read_voxels(task.file.voxels, task.options), truth)
    except (UserError, OSError) as error:
        return SampleResult(str(error), "", 0, 0)


def write_sample(task: SampleTask, scores: VoxelScores, truth: Truth | None) -> SampleResult:
    """Writes the teacher file and the dump surface of voxels, wherever they come from: both from the same numbers.

    Args:
      task: the sample.
      scores: of `scores_of`, on the grid of the options.
      truth: of `read_truth`; None where nothing is drawn from it.

    Raises:
      OSError: a file cannot be written.
    """
    options = task.options
    planes, sparse, kind = scores
    moved, valid, grid = sparse, None, options.grid
    if options.output_grid is not None and task.dump_from_output is not None:
        grid = options.output_grid
        moved, valid = resample_sparse(sparse, options.grid, grid, task.dump_from_output)
    if options.form == "dense":
        # Straight from the numbers where nothing moved: the sparse form has folded free space already.
        teacher = _dense(task.token, grid, planes if moved is sparse else None, kind, moved, valid)
    else:
        teacher = compact_teacher(task.token, grid, moved, None, valid)
    labels = hard_labels(sparse, options.grid)
    _write_surface(task, Scene(planes.reshape(-1, *options.grid.shape), kind, labels, None, truth))
    # Last, so that --skip-existing finds it only where all else is there too.
    return SampleResult("", kind, write_teacher(task.target, teacher, value_kind=kind), len(moved.index))


def _write_map(task: SampleTask, truth: Truth | None) -> SampleResult:
    """The same of a sample that has a BEV map alone; raises DumpError too."""
    options = task.options
    bev, kind = read_bev(task.file.path, options)
    # A map on the dump's own grid needs no heights.
    if options.output_grid not in (None, options.grid):
        raise DumpError("a BEV map has no heights, so it cannot be resampled to another frame; dump voxels")
    if options.form == "dense":
        logits = floored_log_probs(bev).astype(np.float16)
        teacher = DenseTeacher(task.token, options.grid, None, logits, None)
    else:
        teacher = compact_teacher(task.token, options.grid, None, bev)
    _write_surface(task, Scene(None, kind, None, bev, truth))
    return SampleResult("", kind, write_teacher(task.target, teacher, value_kind=kind), 0)


def _write_surface(task: SampleTask, scene: Scene) -> None:
    write_surface(task.options.surface, task.surface_paths, scene, scores_type=task.options.dump_3d_type)


def read_truth(task: SampleTask) -> Truth:
    """Classes uint8 [X, Y, Z] of a sample's truth on the dump's grid, and where they count, bool [X, Y, Z].

    Raises:
      DumpError: the sample has no labels.
      DataError or OSError: they cannot be read.
    """
    if task.labels is None:
        raise DumpError(f"ground-truth maps need labels, and sample {task.token} has none; see --data-root")
    truth, camera_mask = task.labels[0].read(task.labels[1])
    crop = task.labels[0].grid.crop_slices(task.options.grid)
    counts = task.labels[0].counted(truth, camera_mask)
    return truth[crop], counts[crop]


def _dense(token, grid: VoxelGrid, planes, kind: str, sparse: SparseTeacher, valid) -> DenseTeacher:
    if planes is not None:
        logits = dense_log_probs(planes, kind)
    else:
        logits = np.tile(floored_log_probs(sparse.background).astype(np.float16), (grid.num_voxels, 1))
        logits[sparse.index] = floored_log_probs(sparse.rows)
    logits = logits.reshape(*grid.shape, -1)
    # Slab by slab along x: the whole grid in float32 would be 46 MB several times over.
    bev = np.stack(
        [
            column_log_probs_from_voxels(floored_log_probs(np.exp(row.astype(np.float32))), known, np)
            for row, known in zip(logits, [None] * grid.shape[0] if valid is None else valid, strict=True)
        ]
    )
    return DenseTeacher(token, grid, logits, bev.astype(np.float16), valid)
