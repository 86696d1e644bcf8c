"""The samples of a dump that the audit looks at, and the truths that it compares them with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from occjax.classes import FREE
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit import Audit, audit
from occjax.convert.dump.bev_maps import bev_semantics
from occjax.convert.dump.listing import MatchedFile
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.sample import hard_labels
from occjax.convert.dump.scores import read_bev, read_voxels
from occjax.data.files import absent_files, label_files
from occjax.data.index import Index
from occjax.errors import UserError
from occjax.geometry import invert_rigid
from occjax.grid import VoxelGrid, resample_labels
from occjax.label_sets import LABEL_SETS, LabelSet, label_set_of_grid

# Every one is scored against every other: 16 are 256 pairs, a few seconds, and tell an order from chance.
_AUDIT_SAMPLES = 16

Predict = Callable[[MatchedFile], tuple[UInt8[np.ndarray, "x y z"], bool]]


class AuditError(DumpError):
    """The dump does not fit the ground truth of the samples that it was matched with."""


def label_paths(index: Index, splits: tuple[str, ...], labels: LabelSet, data: DataConfig) -> dict[str, Path]:
    """Label file of every sample of the splits that has one, by token."""
    found = {}
    for split in splits:
        files = label_files(index.split(split), labels, data)
        there = set(range(len(files.tokens))) - set(absent_files(files))
        found |= {files.tokens[i]: Path(files.paths[i]) for i in there}
    return found


def audited_samples(
    matched: list[MatchedFile], index: Index, data: DataConfig, options: DumpOptions
) -> list[MatchedFile]:
    """Up to 16 samples that have labels, spread over a dump."""
    paths = label_paths(index, options.splits, label_set_of_grid(options.grid), data)
    candidates = [item for item in matched if item.token in paths]
    if not candidates:
        return []
    # Spread over the dump: what goes wrong, such as an order, goes wrong further on.
    places = np.linspace(0, len(candidates) - 1, _AUDIT_SAMPLES).round().astype(int)
    return [candidates[i] for i in np.unique(places)]


def audit_samples(
    picked: list[MatchedFile], predict: Predict, index: Index, data: DataConfig, options: DumpOptions
) -> Audit | None:
    """Audits samples; None where none of them can be read or has labels.

    Files that cannot be read are left for the conversion to name. Truth on the grids of other label sets comes from
    their own files, or else from these labels, resampled.

    Args:
      picked: of `audited_samples`.
      predict: classes of a sample uint8 [X, Y, Z], and whether they are those of a BEV map, [X, Y, 1]; raises UserError
        or OSError where there are none.
      index: of the tables.
      data: where labels are.
      options: grid and splits.
    """
    labels = label_set_of_grid(options.grid)
    paths = label_paths(index, options.splits, labels, data)
    # Of another shape they cannot be compared.
    others = [other for other in LABEL_SETS.values() if other != labels and other.grid.shape == options.grid.shape]
    other_paths = {other: label_paths(index, options.splits, other, data) for other in others}
    place = {token: (split, i) for split in options.splits for i, token in enumerate(index.split(split).tokens)}

    predictions, truths = [], []
    other_grids: dict[str, list[np.ndarray]] = {other.name: [] for other in others}
    neighbours: dict[int, list[np.ndarray | None]] = {-1: [], 1: []}
    for item in picked:
        try:
            # A file that is damaged is for the conversion to name, with all others of its kind.
            prediction, is_flat = predict(item)
            truth = _truth(labels, paths[item.token], options, is_flat)
        except (UserError, OSError):
            continue
        predictions.append(prediction)
        truths.append(truth)
        split, row = place[item.token]
        order = index.split(split).tokens
        for offset, found in neighbours.items():
            token = order[row + offset] if 0 <= row + offset < len(order) else ""
            found.append(_truth(labels, paths[token], options, is_flat) if token in paths else None)
        for other, files in other_paths.items():
            # Their own files are exact; resampled labels are the next best, and good enough to recognise a grid by.
            if item.token in files:
                semantics = other.read(files[item.token])[0]
            else:
                semantics = _resampled(labels, paths[item.token], other.grid, index, item.token)
            other_grids[other.name].append(bev_semantics(semantics)[..., None] if is_flat else semantics)
    if not predictions:
        return None
    return audit(predictions, truths, labels=labels, neighbours=neighbours, other_grids=other_grids)


def frame_from_frame(index: Index, row: int, dst: VoxelGrid, src: VoxelGrid) -> np.ndarray:
    """float64 [4, 4] transform of points from the frame of `src` to that of `dst`, both at a sample's keyframe time."""
    poses = {"lidar": index.everything.global_from_lidar[row], "ego": index.everything.global_from_ego[row]}
    return invert_rigid(poses[dst.frame]) @ poses[src.frame]


def _resampled(labels: LabelSet, path: Path, grid: VoxelGrid, index: Index, token: str) -> UInt8[np.ndarray, "x y z"]:
    own_from_other = frame_from_frame(index, index.everything.tokens.index(token), labels.grid, grid)
    return resample_labels(labels.read(path)[0], labels.grid, grid, own_from_other, outside=FREE)


def require_sound(found: Audit | None, what: str) -> None:
    """Raises AuditError where the audit found something wrong with `what`."""
    if found and found.problem:
        raise AuditError(
            f"{what} is refused, nothing was written. Likely cause: {found.problem}. Remedy: {found.remedy}; "
            "--no-audit converts it all the same"
        )


def read_prediction(options: DumpOptions, item: MatchedFile) -> tuple[UInt8[np.ndarray, "x y z"], bool]:
    """Classes, and whether they are those of a BEV map, [X, Y, 1]."""
    if item.file.voxels is not None:
        return hard_labels(read_voxels(item.file.voxels, options).sparse, options.grid), False
    return read_bev(item.file.path, options)[0].argmax(-1).astype(np.uint8)[..., None], True


def _truth(labels: LabelSet, path: Path, options: DumpOptions, is_flat: bool) -> UInt8[np.ndarray, "x y z"]:
    semantics = labels.read(path)[0][labels.grid.crop_slices(options.grid)]
    return bev_semantics(semantics)[..., None] if is_flat else semantics
