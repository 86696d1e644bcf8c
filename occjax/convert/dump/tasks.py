"""Samples as tasks, and which of them an earlier run has completed."""

import os
from pathlib import Path

from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit_dump import frame_from_frame, label_paths
from occjax.convert.dump.listing import DumpFile, MatchedFile
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.sample import SampleTask
from occjax.data.index import Index
from occjax.label_sets import label_set_of_grid


def keyframes(index: Index, options: DumpOptions) -> list[MatchedFile]:
    """All samples of the splits, up to `max_samples` of each, under the names that the dump script gives them."""
    return [
        MatchedFile(token, DumpFile(split, f"{row:06d}_0", None, None))
        for split in options.splits
        for row, token in enumerate(index.split(split).tokens)
        if options.max_samples < 0 or row < options.max_samples
    ]


def row_of(task: SampleTask) -> int:
    """Row in the index of its split, of a task made from `keyframes`, whose id says it."""
    return int(task.file.id.removesuffix("_0"))


def sample_tasks(
    matched: list[MatchedFile],
    output: Path,
    index: Index,
    data: DataConfig,
    options: DumpOptions,
    *,
    has_labels: bool = False,
) -> list[SampleTask]:
    """A task of each matched sample; with its labels where something is drawn from them, or with `has_labels`."""
    labels = label_set_of_grid(options.grid)
    wanted = options.surface.needs_truth or has_labels
    truths = label_paths(index, options.splits, labels, data) if wanted else {}
    rows = {token: i for i, token in enumerate(index.everything.tokens)}
    tasks = []
    for token, file in matched:
        dump_from_output = None
        if options.output_grid is not None:
            dump_from_output = frame_from_frame(index, rows[token], options.grid, options.output_grid)
        label = (labels, truths[token]) if token in truths else None
        tasks.append(SampleTask(token, file, output, options, dump_from_output, label))
    return tasks


def require_labels(tasks: list[SampleTask]) -> None:
    """Raises DumpError where something is to be drawn from labels that some of the samples lack."""
    absent = [task.token for task in tasks if task.options.surface.needs_truth and task.labels is None]
    if absent:
        raise DumpError(
            f"ground-truth maps need labels, and {len(absent)} of {len(tasks)} samples have none, first {absent[0]}; "
            "leave the gt_ kinds out of --also, or say where labels are"
        )


def without_completed(tasks: list[SampleTask]) -> list[SampleTask]:
    """The tasks of which a file is absent, of the teacher's or of the dump surface."""
    listings: dict[Path, set[str]] = {}

    def exists(path: Path) -> bool:
        # One listing a folder: asking for 28,000 files one by one takes minutes on a network file system.
        if path.parent not in listings:
            listings[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        return path.name in listings[path.parent]

    return [task for task in tasks if not all(map(exists, (task.target, *task.surface_paths.values())))]


def remove_leftovers(tasks: list[SampleTask]) -> None:
    """Removes what a run that was killed has left half-written of files of these tasks, which nobody else may write."""
    wanted = {path for task in tasks for path in (task.target, *task.surface_paths.values())}
    for folder in {path.parent for path in wanted}:
        # As `storage.writing` names them: hidden, with a random part before the ending.
        for scratch in folder.glob(".*.tmp"):
            if folder / scratch.name[1:].rsplit(".", 2)[0] in wanted:
                scratch.unlink(missing_ok=True)
