"""One sample of a dump: read, decided on, written as a teacher file, drawn."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from occjax.classes import FREE, OTHERS
from occjax.convert.dump import bev_maps
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.listing import DumpFile
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.resample import resample_sparse
from occjax.convert.dump.scores import read_bev, read_voxels
from occjax.convert.dump.values import dense_log_probs, voxel_scores
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LabelSet
from occjax.targets.codec import floored_log_probs
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.files import DenseTeacher, SparseTeacher, compact_teacher, write_teacher


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
    """Writes one teacher file and the maps asked for; a bad input becomes a SampleResult with a problem."""
    try:
        return SampleResult("", *_convert(task))
    except (UserError, OSError) as error:
        return SampleResult(str(error), "", 0, 0)


def _convert(task: SampleTask) -> tuple[str, int, int]:
    options = task.options
    # Before anything is written: a sample whose truth cannot be read gives nothing at all.
    truth = _read_truth(task) if options.maps.wants_truth else None
    if task.file.voxels is None:
        bev, kind = read_bev(task.file.path, options)
        # A map on the dump's own grid needs no heights.
        if options.output_grid not in (None, options.grid):
            raise DumpError("a BEV map has no heights, so it cannot be resampled to another frame; dump voxels")
        if options.form == "dense":
            logits = floored_log_probs(bev).astype(np.float16)
            teacher = DenseTeacher(task.token, options.grid, None, logits, None)
        else:
            teacher = compact_teacher(task.token, options.grid, None, bev)
        _write_maps(task, None, bev.argmax(-1).astype(np.uint8), truth)
        return kind, write_teacher(task.target, teacher, value_kind=kind), 0

    planes = read_voxels(task.file.voxels, options)
    sparse, kind = voxel_scores(planes)
    moved, valid, grid = sparse, None, options.grid
    if options.output_grid is not None and task.dump_from_output is not None:
        grid = options.output_grid
        moved, valid = resample_sparse(sparse, options.grid, grid, task.dump_from_output)
    if options.form == "dense":
        # Straight from the numbers where nothing moved: the sparse form has folded free space already.
        teacher = _dense(task.token, grid, planes if moved is sparse else None, kind, moved, valid)
    else:
        teacher = compact_teacher(task.token, grid, moved, None, valid)
    _write_maps(task, hard_labels(sparse, options.grid), None, truth)
    # Last, so that --skip-existing finds it only where all else is there too.
    return kind, write_teacher(task.target, teacher, value_kind=kind), len(moved.index)


def _read_truth(task: SampleTask) -> tuple[np.ndarray, np.ndarray]:
    """Classes uint8 [X, Y, Z] of a sample's truth on the dump's grid, and where they count, bool [X, Y, Z]."""
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


def _write_maps(
    task: SampleTask,
    labels: UInt8[np.ndarray, "x y z"] | None,
    bev: UInt8[np.ndarray, "x y"] | None,
    truth: tuple[UInt8[np.ndarray, "x y z"], Bool[np.ndarray, "x y z"]] | None,
) -> None:
    """Writes what `MapOptions` asks for, in the dump script's layout: of `labels`, or of `bev` where they are None."""
    maps, options = task.options.maps, task.options
    if not maps.wants_any:
        return

    def flat(voxels: np.ndarray) -> np.ndarray:
        return bev_maps.bev_semantics(
            voxels,
            mode=maps.bev_sem_mode,
            scan_direction=maps.bev_scan_direction,
            priority_ids=maps.bev_priority_ids,
        )

    def write(folder: str, ending: str, array: np.ndarray | None, *, as_picture: bool = False) -> None:
        if not folder or array is None:
            return
        path = Path(folder) / task.file.split / f"{task.file.id}_{ending}"
        if array.ndim == 2:
            flips = {"flip_x": options.bev_flip_x, "flip_y": options.bev_flip_y}
            array = bev_maps.turn(array, rotate_k=options.bev_rotate_k, **flips)
        if as_picture:
            bev_maps.write_png(path, bev_maps.colored(array, maps.vis_scale))
        else:
            bev_maps.write_npy(path, array)

    semantics = bev if labels is None else flat(labels)
    write(maps.dump_occ3d_dir, "occ3d_sem.npy", labels)
    write(maps.dump_bev_dir, "bev_sem.npy", semantics)
    write(maps.dump_bev_vis_dir, "bev_sem.png", semantics, as_picture=True)
    if truth is not None:
        semantics, counts = flat(truth[0]), truth[1].any(-1)
        write(maps.dump_gt_bev_dir, "gt_bev_sem.npy", semantics)
        write(maps.dump_gt_bev_vis_dir, "gt_bev_sem.png", semantics, as_picture=True)
        # Black and white as two classes of those colours.
        mask = np.where(counts, np.uint8(FREE), np.uint8(OTHERS))
        write(maps.dump_gt_bev_mask_vis_dir, "gt_bev_mask.png", mask, as_picture=True)
