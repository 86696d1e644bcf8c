"""A whole dump into a folder of teacher files: matched, audited, converted in parallel, listed in a manifest."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit_dump import AuditError, audit_dump, frame_from_frame, label_paths
from occjax.convert.dump.info_pickle import tokens_in_order
from occjax.convert.dump.listing import MatchedFile, list_dump, match_files
from occjax.convert.dump.measure import compact_kl, decode_ms
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion, kept_facts, previous_manifest, write_output_manifest
from occjax.convert.dump.sample import SampleResult, SampleTask, convert_sample
from occjax.data.index import Index, load_index
from occjax.label_sets import label_set_of_grid
from occjax.progress import Progress

_AUDIT_SAMPLES = 16
_MEASURED_SAMPLES = 4
# A process takes as long to start as so many samples to convert.
_SAMPLES_PER_WORKER = 16


def convert_dump(
    source: Path,
    output: Path,
    *,
    data_config: DataConfig,
    options: DumpOptions | None = None,
    audit: bool = True,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
    print_every_s: float = 5.0,
) -> Conversion:
    """Converts a dump.

    Args:
      source: the dump's folder.
      output: folder for teacher files and manifest; made if absent.
      data_config: root, version and splits of the tables that the dump was made from, and where labels are.
      options: how to read the dump and what to write.
      audit: score a sample of the dump first where labels are there.
      workers: processes; 1 = this one.
      progress: takes lines for the screen.
      print_every_s: seconds between lines on progress.

    Returns:
      What was done; `failures` lists inputs that are damaged or belong to no sample.

    Raises:
      AuditError: the dump does not fit the truth; nothing is written.
      DumpError: dump, ids, info pickle or existing output are not what the options say.
      DataError: the tables or splits are not there.
    """
    options = options or DumpOptions()
    files = list_dump(source, options)
    index = load_index(data_config)
    orders = _orders(index, options)
    matched, matched_by, unmatched = match_files(files, orders, options.match)
    result = Conversion(failures=unmatched)
    per_split = Counter(item.file.split for item in matched)
    counts = ", ".join(f"{split} {per_split[split]} of {len(orders[split])} samples" for split in options.splits)
    progress(f"{len(matched)} of {len(files)} dump files matched by {matched_by.replace('_', ' ')}: {counts}")
    if options.max_samples >= 0:
        matched = [
            item
            for split in options.splits
            for item in [m for m in matched if m.file.split == split][: options.max_samples]
        ]
    previous = previous_manifest(output, options, files)
    tasks, kept = _tasks(matched, output, index, data_config, options)
    if previous and not tasks and not unmatched:
        progress(f"all {len(kept)} samples were converted before")
        result.skipped = len(kept)
        return result
    if audit:
        result.audit = audit_dump(matched, index, data_config, options, samples=_AUDIT_SAMPLES)
        progress(
            result.audit.report()
            if result.audit
            else "the dump is not audited: none of its samples has both labels and a readable file"
        )
        if result.audit and result.audit.problem:
            raise AuditError(
                f"the dump in {source} is refused, nothing was written. Likely cause: {result.audit.problem}. "
                f"Remedy: {result.audit.remedy}; --no-audit converts it all the same"
            )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DumpError(f"cannot write to {output}: {error.strerror}; choose another --output") from error
    result.skipped = len(kept)
    writes = {task.target for task in tasks}
    largest, kinds = kept_facts([path for path in sorted(output.glob("*.npz")) if path not in writes], previous)
    measured: list[SampleTask] = []
    outcomes = _reported(_run(tasks, workers), len(tasks), options, progress, print_every_s)
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome.problem:
            result.failures.append((outcome.path, outcome.problem))
            continue
        result.written += 1
        result.bytes_written += outcome.bytes_written
        kinds[outcome.kind] += 1
        largest = max(largest, outcome.active)
        measured += [task] if len(measured) < _MEASURED_SAMPLES else []
    is_measurable = options.form == "compact" and options.output_grid is None and measured
    if is_measurable:
        result.kl = float(np.mean([compact_kl(task) for task in measured]))
    if result.written + result.skipped:
        write_output_manifest(output, source, options, files, matched_by, kinds, largest, result, previous)
    if is_measurable:
        result.decode_ms = decode_ms(output, [task.token for task in measured])
    return result


def _orders(index: Index, options: DumpOptions) -> dict[str, list[str]]:
    """Sample tokens per split in data set order, from info pickles where given, checked against the tables."""
    infos = dict(options.infos)
    unknown = sorted(set(infos) - set(options.splits))
    if unknown:
        raise DumpError(f"--infos names split {', '.join(unknown)}, but the splits are {', '.join(options.splits)}")
    orders = {}
    for split in options.splits:
        tokens = index.split(split).tokens
        if split in infos:
            listed = tokens_in_order(Path(infos[split]))
            strangers = sorted(set(listed) - set(tokens))
            if strangers:
                raise DumpError(
                    f"info file {infos[split]} lists {len(strangers)} samples that split {split} lacks, first "
                    f"{strangers[0]}; give the file of this split and the version of nuScenes that it was made from"
                )
            tokens = listed
        orders[split] = tokens
    return orders


def _tasks(
    matched: list[MatchedFile], output: Path, index: Index, data: DataConfig, options: DumpOptions
) -> tuple[list[SampleTask], list[Path]]:
    labels = label_set_of_grid(options.grid)
    truths: dict[str, Path] = {}
    if options.maps.wants_truth:
        truths = label_paths(index, options.splits, labels, data)
    rows = {token: i for i, token in enumerate(index.everything.tokens)}
    present = {path.name for path in output.glob("*.npz")} if options.skip_existing else set()
    tasks, kept = [], []
    for token, file in matched:
        if f"{token}.npz" in present:
            kept.append(output / f"{token}.npz")
            continue
        dump_from_output = None
        if options.output_grid is not None:
            dump_from_output = frame_from_frame(index, rows[token], options.grid, options.output_grid)
        path = truths.get(token)
        label = (labels, path) if path else None
        tasks.append(SampleTask(token, file, output, options, dump_from_output, label))
    return tasks, kept


def _run(tasks: list[SampleTask], workers: int) -> Iterator[SampleResult]:
    workers = min(workers, len(tasks) // _SAMPLES_PER_WORKER)
    if workers <= 1:
        yield from map(convert_sample, tasks)
        return
    # Spawned: a fork of a process that has threads (jax, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            yield from pool.map(convert_sample, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers))))
    except BrokenProcessPool as error:
        raise DumpError(
            "a converter process died, most likely for want of memory; run again with --skip-existing and fewer "
            "--workers"
        ) from error


def _reported(
    outcomes: Iterator[SampleResult],
    total: int,
    options: DumpOptions,
    progress: Callable[[str], None],
    print_every_s: float,
) -> Iterator[SampleResult]:
    """Passes outcomes on, with a line now and then: rate, bytes saved against dense fp16, time left."""
    lines = Progress("converting", total, progress, every_s=print_every_s)
    dense = 2 * options.grid.num_voxels * options.num_classes
    size, done = 0, 0
    for outcome in outcomes:
        size, done = size + outcome.bytes_written, done + (not outcome.problem)
        saved = max(done * dense - size, 0)
        lines.advance(remark=f"{size / 1e6:.1f} MB written, {saved / 1e6:.0f} MB saved against dense fp16")
        yield outcome
