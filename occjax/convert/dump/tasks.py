"""The samples that are to be written: all of those matched, but for what an earlier run has completed."""

import os
from pathlib import Path

from occjax.config import DataConfig
from occjax.convert.dump.audit_dump import frame_from_frame, label_paths
from occjax.convert.dump.listing import MatchedFile
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.sample import SampleTask
from occjax.data.index import Index
from occjax.label_sets import label_set_of_grid


def sample_tasks(
    matched: list[MatchedFile], output: Path, index: Index, data: DataConfig, options: DumpOptions
) -> list[SampleTask]:
    """What is to be written: all matched samples, but for those that `options` say to keep."""
    labels = label_set_of_grid(options.grid)
    truths = label_paths(index, options.splits, labels, data) if options.surface.needs_truth else {}
    rows = {token: i for i, token in enumerate(index.everything.tokens)}
    tasks = []
    for token, file in matched:
        dump_from_output = None
        if options.output_grid is not None:
            dump_from_output = frame_from_frame(index, rows[token], options.grid, options.output_grid)
        label = (labels, truths[token]) if token in truths else None
        tasks.append(SampleTask(token, file, output, options, dump_from_output, label))
    return without_completed(tasks) if options.skip_existing else tasks


def without_completed(tasks: list[SampleTask]) -> list[SampleTask]:
    """The tasks of which a file is absent, of the teacher's or of the dump surface."""
    listings: dict[Path, set[str]] = {}

    def exists(path: Path) -> bool:
        # One listing a folder: asking for 28,000 files one by one takes minutes on a network file system.
        if path.parent not in listings:
            listings[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        return path.name in listings[path.parent]

    return [task for task in tasks if not all(map(exists, (task.target, *task.surface_paths.values())))]
