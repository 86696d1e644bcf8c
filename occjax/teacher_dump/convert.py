"""A whole dump into a folder of teacher files: matched, audited, converted in parallel, listed in a manifest."""

import dataclasses
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

import occjax
from occjax.config import DataConfig
from occjax.data.index import Index, load_index
from occjax.data.teacher_files import (
    MANIFEST_NAME,
    CompactTeacher,
    compact_from_dense,
    grid_to_dict,
    read_teacher,
    write_manifest,
)
from occjax.geometry import invert_rigid
from occjax.teacher_dump.arrays import DumpError
from occjax.teacher_dump.audit import Audit
from occjax.teacher_dump.audit_dump import AuditError, audit_dump, label_paths, label_set_of
from occjax.teacher_dump.info_pickle import tokens_in_order
from occjax.teacher_dump.listing import DumpFile, MatchedFile, list_dump, match_files
from occjax.teacher_dump.options import DumpOptions
from occjax.teacher_dump.sample import Job, Outcome, convert_sample

_AUDIT_SAMPLES = 8
_MEASURED_SAMPLES = 4


@dataclasses.dataclass
class Conversion:
    """What a conversion did.

    Attributes:
      written, skipped: samples converted now, and kept from before.
      failures: (file, reason) of every input that gave nothing.
      bytes_written: size of the files written now.
      kl: mean KL(dump || file) in nats per voxel over the first of them.
      audit: what the audit found, or None where it was off or no labels are there.
    """

    written: int = 0
    skipped: int = 0
    failures: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    bytes_written: int = 0
    kl: float = 0.0
    audit: Audit | None = None


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
    files = list_dump(
        source,
        options.splits,
        dump_3d_dir=options.dump_3d_dir,
        dump_3d_type=options.dump_3d_type,
        dump_bev_prob_dir=options.dump_bev_prob_dir,
    )
    index = load_index(data_config)
    orders = _orders(index, options)
    matched, matched_by, unmatched = match_files(files, orders, options.match)
    result = Conversion(failures=unmatched)
    progress(f"{len(matched)} of {len(files)} dump files matched to samples by {matched_by.replace('_', ' ')}")
    if options.max_samples >= 0:
        matched = [
            item
            for split in options.splits
            for item in [m for m in matched if m.file.split == split][: options.max_samples]
        ]
    previous = _previous_manifest(output, options, files)
    jobs, kept = _jobs(matched, output, index, data_config, options)
    if previous and not jobs and not unmatched:
        progress(f"all {len(kept)} samples were converted before")
        result.skipped = len(kept)
        return result
    if audit:
        result.audit = audit_dump(matched, index, data_config, options, samples=_AUDIT_SAMPLES)
        progress(result.audit.report() if result.audit else "no labels found: the dump is not audited")
        if result.audit and result.audit.problem:
            raise AuditError(
                f"the dump in {source} is refused, nothing was written. Likely cause: {result.audit.problem}. "
                "Mend the dump or the options (--match, --infos, --splits); --no-audit converts it all the same"
            )
    output.mkdir(parents=True, exist_ok=True)
    result.skipped = len(kept)
    kinds: Counter[str] = Counter(previous.get("value_kind", {}) if kept else {})
    largest = _largest_kept(kept, previous)
    kl = []
    for outcome in _reported(_run(jobs, workers), len(jobs), options, progress, print_every_s):
        if outcome.problem:
            result.failures.append((outcome.path, outcome.problem))
            continue
        result.written += 1
        result.bytes_written += outcome.bytes_written
        kinds[outcome.kind] += 1
        largest = max(largest, outcome.active)
        kl.append(outcome.kl)
    measured = [value for value in kl if np.isfinite(value)]
    result.kl = float(np.mean(measured)) if measured else 0.0
    if result.written + result.skipped:
        _write_manifest(output, source, options, files, matched_by, kinds, largest, result)
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


def _contents(options: DumpOptions, files: list[DumpFile]) -> dict[str, bool]:
    has_voxels = files[0].voxels is not None
    return {"voxels": has_voxels, "bev": not has_voxels, "validity": options.output_grid is not None}


def _previous_manifest(output: Path, options: DumpOptions, files: list[DumpFile]) -> dict:
    """The manifest of an earlier run, which must have made the same kind of files; empty if there is none."""
    path = output / MANIFEST_NAME
    if not path.is_file():
        return {}
    manifest = json.loads(path.read_text())
    ours = {
        "grid": json.loads(json.dumps(grid_to_dict(options.output_grid or options.grid))),
        "form": options.form,
        "contents": _contents(options, files),
    }
    different = [name for name, value in ours.items() if manifest.get(name) != value]
    if different:
        raise DumpError(
            f"{output} holds teacher files of another {', '.join(different)}; choose another --output or delete it"
        )
    return manifest


def _jobs(
    matched: list[MatchedFile], output: Path, index: Index, data: DataConfig, options: DumpOptions
) -> tuple[list[Job], list[Path]]:
    labels: dict[str, Path] = {}
    if options.maps.wants_truth:
        labels = label_paths(index, options.splits, label_set_of(options), data)
    rows = {token: i for i, token in enumerate(index.everything.tokens)}
    present = {path.name for path in output.glob("*.npz")} if options.skip_existing else set()
    jobs, kept = [], []
    for token, file in matched:
        if f"{token}.npz" in present:
            kept.append(output / f"{token}.npz")
            continue
        dump_from_output = None
        if options.output_grid is not None:
            dump_from_output = _dump_from_output(index, rows[token], options)
        path = labels.get(token)
        label = (label_set_of(options), path) if path else None
        jobs.append(Job(token, file, output, options, dump_from_output, label, len(jobs) < _MEASURED_SAMPLES))
    return jobs, kept


def _dump_from_output(index: Index, row: int, options: DumpOptions) -> np.ndarray:
    """Points of the output grid's frame in the dump's frame, both at keyframe time."""
    poses = {"lidar": index.everything.global_from_lidar[row], "ego": index.everything.global_from_ego[row]}
    return invert_rigid(poses[options.grid.frame]) @ poses[options.output_grid.frame]


def _largest_kept(kept: list[Path], previous: dict) -> int:
    if not kept:
        return 0
    if previous:
        return int(previous["max_active_voxels"])
    largest = 0  # an earlier run was cut off before its manifest
    for path in kept:
        found = read_teacher(path)
        compact = found if isinstance(found, CompactTeacher) else compact_from_dense(found)
        largest = max(largest, 0 if compact.free is None else len(compact.free))
    return largest


def _run(jobs: list[Job], workers: int) -> Iterator[Outcome]:
    if workers <= 1 or len(jobs) < 2:
        yield from map(convert_sample, jobs)
        return
    # Spawned: a fork of a process that has threads (jax, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
            yield from pool.map(convert_sample, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
    except BrokenProcessPool as error:
        raise DumpError(
            "a converter process died, most likely for want of memory; run again with --skip-existing and fewer "
            "--workers"
        ) from error


def _reported(
    outcomes: Iterator[Outcome],
    total: int,
    options: DumpOptions,
    progress: Callable[[str], None],
    print_every_s: float,
) -> Iterator[Outcome]:
    """Passes outcomes on, with a line now and then: rate, bytes saved against dense fp16, time left."""
    started = last = time.monotonic()
    dense = 2 * options.grid.num_voxels * options.num_classes
    size, done = 0, 0
    for count, outcome in enumerate(outcomes, 1):
        size, done = size + outcome.bytes_written, done + (not outcome.problem)
        now = time.monotonic()
        if now - last >= print_every_s or count == total:
            rate = count / max(now - started, 1e-9)
            left = int((total - count) / rate)
            saved = max(done * dense - size, 0)
            progress(
                f"{count}/{total} samples, {rate:.1f}/s, {size / 1e6:.1f} MB written, {saved / 1e6:.0f} MB saved "
                f"against dense fp16, {left // 60}:{left % 60:02d} left"
            )
            last = now
        yield outcome


def _write_manifest(
    output: Path,
    source: Path,
    options: DumpOptions,
    files: list[DumpFile],
    matched_by: str,
    kinds: Counter,
    largest: int,
    result: Conversion,
) -> None:
    audit = result.audit
    details = {
        "bev": "column rule over the voxels" if files[0].voxels is not None else "maps of the dump",
        "mean_kl_nats": result.kl,
        "bytes_per_sample": result.bytes_written // max(result.written, 1),
        "failed": len(result.failures),
        "infos": dict(options.infos),
        "versions": {"occjax": occjax.__version__, "numpy": np.__version__},
        "audit": None
        if audit is None
        else {
            "protocol": "SurroundOcc",
            "samples": audit.samples,
            "true_pairing": audit.true_pairing._asdict(),
            "shuffled": None if audit.shuffled is None else audit.shuffled._asdict(),
        },
    }
    write_manifest(
        output,
        grid=options.output_grid or options.grid,
        form=options.form,
        samples=len(list(output.glob("*.npz"))),
        max_active_voxels=largest,
        contents=_contents(options, files),
        source=source.name,
        matched_by=matched_by if not options.infos else f"{matched_by} in an info pickle",
        value_kind=dict(kinds),
        details=details,
    )
