"""Files that a split needs, and which of them are absent, found by listing folders instead of asking per file."""

import contextlib
import itertools
import os
import zipfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from occjax.config import DataConfig
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts, TeacherReader
from occjax.errors import DataError
from occjax.label_sets import LabelSet, label_set

# Listing is waiting, above all on network file systems.
_THREADS = 32
_FOLDERS_PER_TASK = 64


class FileSet(NamedTuple):
    """Files of one kind: `paths[i]` belongs to the sample `tokens[i]`; `remedy` says how to get absent ones."""

    kind: str
    tokens: list[str]
    paths: list[str]
    remedy: str


def camera_files(split: SplitIndex, channel: str) -> FileSet:
    """Images of one channel, without samples that lack the channel; DataError where the tables do not know it."""
    (column,) = split.camera_columns((channel,))
    # Absence in the tables is a fact of the data set, masked in the batch; only a named file can be missing.
    rows = [(token, name) for token, name in zip(split.tokens, split.camera_file[:, column], strict=True) if name]
    return FileSet(
        f"{channel} images",
        [token for token, _ in rows],
        [f"{split.root}/{name.decode()}" for _, name in rows],
        _unpack_blobs(split.root),
    )


def lidar_files(split: SplitIndex) -> FileSet:
    """LIDAR_TOP sweeps, which only depth supervision reads."""
    paths = [f"{split.root}/{name.decode()}" for name in split.lidar_file]
    remedy = f"{_unpack_blobs(split.root)}, or train without depth supervision: --config.loss.depth=0"
    return FileSet("LiDAR sweeps", split.tokens, paths, remedy)


def labels_folder(labels: LabelSet, data: DataConfig) -> Path:
    """Where the files of a label set lie; `data.labels_dir` applies to the configured set only."""
    if data.labels_dir and labels.name == data.labels:
        return Path(data.labels_dir)
    return Path(data.root) / labels.folder


def label_path(split: SplitIndex, row: int, labels: LabelSet, data: DataConfig) -> Path:
    """The file of one sample of a label set."""
    lidar_file, scene_name, token = split.lidar_file[row].decode(), split.scene_names[row], split.tokens[row]
    return labels.path(labels_folder(labels, data), lidar_file=lidar_file, scene_name=scene_name, token=token)


def label_files(split: SplitIndex, labels: LabelSet, data: DataConfig) -> FileSet:
    """Label files of a label set."""
    paths = [str(label_path(split, row, labels, data)) for row in range(len(split))]
    remedy = (
        f"extract the {labels.name} archive so that such files appear, or set data.labels_dir to the folder it went to"
    )
    return FileSet(f"{labels.name} labels", split.tokens, paths, remedy)


def teacher_files(split: SplitIndex, teacher: TeacherReader) -> FileSet:
    """Files of a folder of teacher targets."""
    paths = [str(teacher.path(token)) for token in split.tokens]
    return FileSet("teacher files", split.tokens, paths, teacher.completing_command())


def _unpack_blobs(root: Path) -> str:
    return f"for archive in v1.0-*_blobs.tgz; do tar -xzf $archive -C {root}; done"


def absent_files(files: FileSet) -> list[int]:
    """Positions in `files` whose file does not exist."""
    listings = _by_folder(_names, files.paths)
    return [i for i, path in enumerate(files.paths) if os.path.basename(path) not in listings[os.path.dirname(path)]]


def file_sizes(files: FileSet) -> list[int]:
    """Bytes of each file, -1 where it does not exist."""
    listings = _by_folder(_sizes, files.paths)
    return [listings[os.path.dirname(path)].get(os.path.basename(path), -1) for path in files.paths]


def place(path: str) -> str:
    """A path for a message, and where it leads if it is a link."""
    return f"{path}, a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else path


def damaged_npz(paths: list[str]) -> list[int]:
    """Positions of the .npz files that were cut off: the record that ends each of them is not there."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return [i for i, is_whole in enumerate(pool.map(zipfile.is_zipfile, paths)) if not is_whole]


def require_files(data: DataConfig, split: SplitIndex, parts: Parts) -> None:
    """Raises DataError counting the absent files of a split, with the first five tokens and the remedy of each kind."""
    split.camera_columns(data.cameras)  # names all that are unknown, where a file set knows one
    file_sets = [camera_files(split, channel) for channel in data.cameras]
    file_sets += [lidar_files(split)] if parts.lidar else []
    file_sets += [label_files(split, label_set(data.labels), data)] if parts.labels else []
    file_sets += [teacher_files(split, parts.teacher)] if parts.teacher else []
    # Every kind is looked for before any is reported: mending one should not be the way to learn of the next.
    problems = []
    for files in file_sets:
        absent = absent_files(files)
        if absent:
            tokens = ", ".join(files.tokens[i] for i in absent[:5]) + (", ..." if len(absent) > 5 else "")
            count, first = f"{len(absent)} of {len(files.tokens)}", place(files.paths[absent[0]])
            problems.append(f"  {count} {files.kind}, tokens {tokens} (first: {first}); {files.remedy}")
    if problems:
        raise DataError(
            f"split {split.name} ({len(split)} samples) lacks files; --mode=doctor shows all:\n" + "\n".join(problems)
        )


def _by_folder(listing: Callable[[str, set[str]], Any], paths: list[str]) -> dict[str, Any]:
    """`listing` of every folder that the paths lie in, by name."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        wanted[os.path.dirname(path)].add(os.path.basename(path))

    def list_share(folders: list[str]) -> list[tuple[str, Any]]:
        return [(folder, listing(folder, wanted[folder])) for folder in folders]

    folders = list(wanted)
    # Occ3D has a folder per sample: too many for a task each.
    shares = [folders[i : i + _FOLDERS_PER_TASK] for i in range(0, len(folders), _FOLDERS_PER_TASK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(itertools.chain.from_iterable(pool.map(list_share, shares)))


def _names(folder: str, wanted: set[str]) -> set[str]:
    if len(wanted) <= 2:  # a question each costs less than a list
        return {name for name in wanted if os.path.exists(f"{folder}/{name}")}
    try:
        with os.scandir(folder) as entries:
            # A link is followed, for it may lead nowhere; of all else the name says that it is there.
            return {e.name for e in entries if e.name in wanted and (not e.is_symlink() or os.path.exists(e.path))}
    except OSError:
        return set()


def _sizes(folder: str, wanted: set[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        # One pass over a folder of all images instead of a search per name.
        for entry in entries:
            # One broken link among them hides none of the others.
            if entry.name in wanted:
                with contextlib.suppress(OSError):
                    sizes[entry.name] = entry.stat().st_size
    return sizes
