"""Folder of predictions: scores of its files against the labels of a nuScenes root."""

import logging
from pathlib import Path
from typing import Any

from occjax.config import DataConfig
from occjax.data.index import Index, SplitIndex, load_index
from occjax.errors import DataError, UserError
from occjax.grid import OCC3D_GRID, GridMismatchError
from occjax.label_sets import LABEL_SETS, Labels, LabelSet, label_set_of_grid
from occjax.metrics.confusion import ScoringError
from occjax.metrics.prediction_files import read_prediction
from occjax.metrics.protocols import VoxelMiou
from occjax.metrics.rayiou import RayIou, ray_origins_m
from occjax.metrics.scores import Scores
from occjax.system.progress import Progress

_RAYIOU = "rayiou"
_log = logging.getLogger(__name__)


def protocol_names() -> tuple[str, ...]:
    """What can be asked for: the protocol of each label set by the set's name, and RayIoU."""
    return (*LABEL_SETS, _RAYIOU)


def score_folder(
    predictions: Path, root: Path, *, protocols: tuple[str, ...], version: str = "", split: str = ""
) -> dict[str, list[Scores]]:
    """Scores every prediction file by each protocol.

    Args:
      predictions: folder of `<sample token>.npz` or `.npy`.
      root: nuScenes root with tables and labels.
      protocols: of `protocol_names`.
      version: of the tables; empty = the only one in `root`.
      split: if given, every sample of it must have a file, and others are left out; else every file is scored.

    Predictions that name no grid lie on the whole grid of the label set; those that do may lie on an aligned crop of
    it, all on the same one.

    Returns:
      scores of each protocol; two entries for Occ3D, with the camera mask and without.

    Raises:
      ScoringError: unknown protocol, no predictions, files without a sample or samples without a file, damaged files,
        or labels that cannot be read.
      GridMismatchError: a prediction says that it lies on another grid than the labels.
    """
    # In the order asked for, each once.
    protocols = tuple(dict.fromkeys(protocols))
    unknown = [name for name in protocols if name not in protocol_names()]
    if unknown or not protocols:
        raise ScoringError(f"protocols must be among {', '.join(protocol_names())}, not {', '.join(unknown) or 'none'}")
    labels_of = {name: _labels_of(name) for name in protocols}
    label_sets = dict.fromkeys(labels_of.values())
    if len({labels.grid for labels in label_sets}) > 1:
        names = " and ".join(labels.name for labels in label_sets)
        _log.warning("%s lie on different grids: at most one fits predictions of one model", names)
    files = _prediction_files(predictions)
    try:
        index = load_index(DataConfig(root=str(root), version=version or _only_version(root)))
        keyframes = index.split(split) if split else index.everything
    except DataError as error:
        raise ScoringError(f"the index of {root} is needed to find labels and ray origins: {error}") from error
    rows = _rows_to_score(files, keyframes, predictions, split)
    if not split:
        _warn_of_parts(files, index)
    states: dict[str, Any] = {}
    progress = Progress("scoring", len(rows), _log.info)
    for row in rows:
        path = files[keyframes.tokens[row]]
        prediction, named_grid = read_prediction(path)
        # Read once: Occ3D's labels serve its mIoU and the rays.
        truths = {labels: _read_labels(labels, root, keyframes, row) for labels in label_sets}
        for name, labels in labels_of.items():
            grid = named_grid or labels.grid
            semantics, mask = truths[labels]
            # Made at the first file, which says on which grid the folder lies.
            state = states.get(name)
            try:
                if name == _RAYIOU:
                    state = state or RayIou.empty()
                    states[name] = state.update(prediction, semantics, ray_origins_m(keyframes, row), grid=grid)
                    continue
                state = state or VoxelMiou.empty(labels, grid)
                state.grid.require_same(grid, "files of one folder", "score the files of each grid by themselves")
                states[name] = state.update(prediction, *labels.on(grid, (semantics, mask)))
            except GridMismatchError as error:
                fitting = ",".join(p for p in protocol_names() if _labels_of(p).grid.frame == grid.frame)
                raise GridMismatchError(
                    f"prediction {path} by {name}: {error}; in its own frame: --protocol {fitting}"
                ) from error
            except UserError as error:
                raise ScoringError(f"prediction {path}: {error}") from error
        progress.advance()
    return {name: states[name].compute() for name in protocols}


def _labels_of(protocol: str) -> LabelSet:
    """The labels that a protocol compares predictions with: of its own label set, or on the grid of the rays."""
    return label_set_of_grid(OCC3D_GRID) if protocol == _RAYIOU else LABEL_SETS[protocol]


def _warn_of_parts(files: dict[str, Path], index: Index) -> None:
    """Says which splits the files cover in part only: such scores compare with nothing published."""
    samples = list(zip(index.everything.tokens, index.everything.scene_names, strict=True))
    for name, scenes in index.splits.items():
        has_file = [token in files for token, scene in samples if scene in scenes]
        if any(has_file) and not all(has_file):
            _log.warning("%d of the %d samples of split %s have a prediction here", sum(has_file), len(has_file), name)


def _only_version(root: Path) -> str:
    found = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if len(found) > 1:
        raise ScoringError(f"{root} holds {', '.join(found)}; say which with --version")
    # Without any, the index's own message says what is missing, and where.
    return found[0] if found else "v1.0-trainval"


def _prediction_files(folder: Path) -> dict[str, Path]:
    """File of each token; two files of one token are an error."""
    if not folder.is_dir():
        raise ScoringError(f"no folder of predictions {folder}; name the folder that holds <sample token>.npz files")
    # Hidden files are what a writer that was killed has left half done.
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".npy") and path.name[0] != ".")
    files = {path.stem: path for path in paths}
    if not files:
        raise ScoringError(f"{folder} holds no <sample token>.npz or .npy file")
    if len(files) < len(paths):
        raise ScoringError(f"{folder} holds {len(paths) - len(files)} tokens as .npz and as .npy; remove one of each")
    return files


def _rows_to_score(files: dict[str, Path], keyframes: SplitIndex, folder: Path, split: str) -> list[int]:
    rows = [row for row, token in enumerate(keyframes.tokens) if token in files]
    # A split is scored whole or not at all; without one the files say what is scored.
    if split:
        absent = [token for token in keyframes.tokens if token not in files]
        if absent:
            raise ScoringError(
                f"{folder} lacks {len(absent)} of the {len(keyframes)} samples of split {split}, first "
                f"{', '.join(absent[:5])}; a score of a part is not comparable: predict them, or leave out --split"
            )
        return rows
    strangers = sorted(set(files) - set(keyframes.tokens))
    if strangers:
        raise ScoringError(
            f"{len(strangers)} of {len(files)} files in {folder} are named after no sample token of these tables, "
            f"first {', '.join(strangers[:5])}; rename them, or give the version and root they belong to"
        )
    return rows


def _read_labels(labels: LabelSet, root: Path, keyframes: SplitIndex, row: int) -> Labels:
    path = labels.path(
        root / labels.folder,
        lidar_file=keyframes.lidar_file[row].decode(),
        scene_name=keyframes.scene_names[row],
        token=keyframes.tokens[row],
    )
    try:
        return labels.read(path)
    except (DataError, OSError) as error:
        raise ScoringError(
            f"{labels.name} labels of sample {keyframes.tokens[row]} cannot be read from {path}: {error}; extract the "
            "label archive there, or score by another protocol"
        ) from error
