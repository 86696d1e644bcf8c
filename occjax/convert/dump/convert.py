"""A whole dump into a folder of teacher files: matched, audited, converted in parallel, listed in a manifest."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import occjax
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.audit_dump import audit_samples, audited_samples, read_prediction, require_sound
from occjax.convert.dump.info_pickle import tokens_in_order
from occjax.convert.dump.listing import list_dump, match_files
from occjax.convert.dump.measure import decode_ms, dump_kl
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion
from occjax.convert.dump.sample import SampleResult, SampleTask, convert_sample
from occjax.convert.dump.surface_manifest import SurfaceSource, surface_manifests, value_kind_of, write_manifests
from occjax.convert.dump.tasks import remove_leftovers, sample_tasks, without_completed
from occjax.convert.processes import map_in_processes
from occjax.data.index import Index, load_index
from occjax.storage import remove_abandoned
from occjax.system.progress import Progress

# The figures differ by a few per cent between samples, and each one reads its dump again.
_MEASURED_SAMPLES = 4
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
    options = dataclasses.replace(options, voxel_kind=value_kind_of(source))
    if files[0].voxels is None and options.surface.needs_heights:
        raise DumpError(
            f"{source} holds BEV maps, which have no heights to write {', '.join(options.surface.needs_heights)} from; "
            "leave that out of --also, or convert a dump of voxels"
        )
    index = load_index(data_config)
    # Before the files are read: a wrong info pickle makes every position a wrong sample.
    orders = _orders(index, options)
    matched, matched_by, unmatched = match_files(files, orders, options.match)
    result = Conversion(
        output,
        source.name,
        options.output_grid or options.grid,
        options.form,
        has_voxels=files[0].voxels is not None,
        has_validity=options.output_grid is not None,
        matched_by=f"{matched_by} in an info pickle" if options.infos else matched_by,
        failures=unmatched,
    )
    per_split = Counter(item.file.split for item in matched)
    counts = ", ".join(f"{split} {per_split[split]} of {len(orders[split])} samples" for split in options.splits)
    progress(f"{len(matched)} of {len(files)} dump files matched by {matched_by.replace('_', ' ')}: {counts}")
    if options.max_samples >= 0:
        matched = [
            item
            for split in options.splits
            for item in [m for m in matched if m.file.split == split][: options.max_samples]
        ]
    # Before any work: files of two kinds in one folder would serve nobody.
    previous = result.previous("grid", "form", "contents")
    tasks = sample_tasks(matched, output, index, data_config, options)
    tasks = without_completed(tasks) if options.skip_existing else tasks
    if previous and not tasks and not unmatched:
        result.kept = len(matched)
        progress(f"all {result.kept} samples were converted before")
        return result
    # Before any work too: what lies there may be another dump.
    manifests = surface_manifests(SurfaceSource(f"dump {source.name}", result.matched_by, {}), options, taken=output)
    # After the tables and before anything is written: a dump that is refused leaves nothing behind.
    if audit:
        picked = audited_samples(matched, index, data_config, options)
        result.audit = audit_samples(picked, partial(read_prediction, options), index, data_config, options)
        progress(
            result.audit.report()
            if result.audit
            else "the dump is not audited: none of its samples has both labels and a readable file"
        )
        require_sound(result.audit, f"the dump in {source}")
    result.make_folder()
    remove_leftovers(tasks)
    remove_abandoned(output)
    write_manifests(manifests)
    result.keep_but({task.target for task in tasks}, previous)
    measured: list[SampleTask] = []
    for task, outcome in zip(tasks, _run(tasks, workers, options, progress, print_every_s), strict=True):
        if outcome.problem:
            result.failures.append((task.file.path, outcome.problem))
            continue
        result.add(outcome.kind, outcome.bytes_written, outcome.active)
        # The first ones that worked, whichever they are.
        measured += [task] if len(measured) < _MEASURED_SAMPLES else []
    # A dense file loses nothing, and what was resampled has no counterpart in the dump.
    if options.form == "dense" or options.output_grid is not None:
        measured = []
    if measured:
        result.kl = float(np.mean([dump_kl(task) for task in measured]))
    # A folder without a single file stays without a manifest, so that no training run starts from it.
    if result.written + result.kept:
        _write_manifest(result, options, previous)
    if measured:  # last: the folder is read as training reads it, manifest first
        result.decode_ms = decode_ms(output, [task.token for task in measured])
    return result


def _write_manifest(result: Conversion, options: DumpOptions, previous: dict) -> None:
    result.write_manifest(
        mean_kl_nats=result.kl if result.written else previous.get("mean_kl_nats"),
        bytes_per_sample=result.bytes_written // result.written if result.written else previous.get("bytes_per_sample"),
        failed=len(result.failures),
        infos=dict(options.infos),
        versions={"occjax": occjax.__version__, "numpy": np.__version__},
        audit=result.audit and result.audit.facts(),
    )


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
            # Fewer samples than the tables have are a part of the split; others are another split.
            if strangers:
                raise DumpError(
                    f"info file {infos[split]} lists {len(strangers)} samples that split {split} lacks, first "
                    f"{strangers[0]}; give the file of this split and the version of nuScenes that it was made from"
                )
            tokens = listed
        orders[split] = tokens
    return orders


def _run(
    tasks: list[SampleTask],
    workers: int,
    options: DumpOptions,
    progress: Callable[[str], None],
    print_every_s: float,
) -> Iterator[SampleResult]:
    """What became of each task, with a line now and then: rate, bytes saved against dense fp16, time left."""
    lines = Progress("converting", len(tasks), progress, every_s=print_every_s)
    dense = 2 * options.grid.num_voxels * options.num_classes
    size = done = 0
    # A process takes as long to start as so many samples to convert.
    workers = min(workers, len(tasks) // _SAMPLES_PER_WORKER)
    if_one_dies = DumpError(
        "a converter process died, most likely for want of memory; run again with --skip-existing and fewer --workers"
    )
    # Few and large, but so many that the last process does not work alone at the end.
    chunk_size = max(1, min(16, len(tasks) // (4 * max(workers, 1))))
    for outcome in map_in_processes(convert_sample, tasks, workers, if_one_dies=if_one_dies, chunk_size=chunk_size):
        size, done = size + outcome.bytes_written, done + (not outcome.problem)
        saved = max(done * dense - size, 0)
        lines.advance(remark=f"{size / 1e6:.1f} MB written, {saved / 1e6:.0f} MB saved against dense fp16")
        yield outcome
