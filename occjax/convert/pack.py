"""A split packed into shards of records: in parallel, each shard whole or not at all, finished ones left alone."""

import dataclasses
import logging
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from occjax.config import Config
from occjax.cpu import keep_freed_memory
from occjax.data.augment import plain_resize
from occjax.data.file_source import FileSource
from occjax.data.index import Index, SplitIndex
from occjax.data.record_folder import make_facts, read_shard, shard_name, write_shard
from occjax.data.records import Record, encode_record, filter_image
from occjax.data.sources import open_source
from occjax.errors import DataError

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Packing:
    """What `pack_split` did.

    Attributes:
      written, kept: samples packed now, and those of shards that were finished before.
      bytes_written: size of the shards written now.
      failures: shard name and reason of every shard that was not written.
    """

    written: int = 0
    kept: int = 0
    bytes_written: int = 0
    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)


class _Job(NamedTuple):
    folder: Path
    name: str
    rows: range
    facts: dict


def pack_split(
    config: Config,
    index: Index,
    split: str,
    output: Path,
    *,
    samples_per_shard: int = 128,
    part: tuple[int, int] = (0, 1),
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> Packing:
    """Packs a split as files give it without augmentation; the teacher too, where `data.teacher_dir` has all of it.

    Args:
      config: input size, cameras, labels, teacher.
      index: of `config.data.root`.
      split: name.
      output: folder for the shards; made if absent.
      samples_per_shard: the last one may have fewer.
      part: (i, n): only shards i, i + n, ...; n jobs that share `output` pack the split together.
      workers: processes; 1 = this one.
      progress: takes a line for the screen after each shard.

    Raises:
      DataError: files are absent, or `output` holds shards of this split that were packed otherwise.
      GridMismatchError: the model's grid is no aligned crop of the teacher's.
    """
    keyframes = index.split(split)
    source = _open(config, keyframes)
    source.require_complete()
    count = -(-len(keyframes) // samples_per_shard)
    facts = make_facts(config, source.teacher)
    jobs = []
    for number in range(part[0], count, part[1]):
        rows = range(number * samples_per_shard, min((number + 1) * samples_per_shard, len(keyframes)))
        jobs.append(_Job(output, shard_name(split, number, count), rows, facts))
    _require_own_shards(output, split, count)
    result = Packing()
    pending = []
    for job in jobs:
        if _is_finished(job, keyframes):
            result.kept += len(job.rows)
        else:
            pending.append(job)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {output}: {error.strerror}; choose another --output") from error
    total = sum(len(job.rows) for job in pending)
    started = time.monotonic()
    for job, size, failure in _run(pending, config, source, workers):
        if failure:
            result.failures.append((job.name, failure))
            continue
        result.written += len(job.rows)
        result.bytes_written += size
        rate = result.written / max(time.monotonic() - started, 1e-9)
        left = int((total - result.written) / rate)
        progress(
            f"{split}: {result.written}/{total} samples, {rate:.1f}/s, {result.bytes_written / 1e6:.1f} MB written "
            f"({result.bytes_written / result.written / 1e6:.2f} MB each), {left // 60}:{left % 60:02d} left"
        )
    return result


def _open(config: Config, keyframes: SplitIndex) -> FileSource:
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, records_dir=""))
    source = open_source(config, keyframes, with_teacher=bool(config.data.teacher_dir))
    is_needed = config.loss.distill.is_on and keyframes.name == config.data.train_split
    if source.teacher is None or is_needed or not (absent := source.without_teacher(keyframes.tokens)):
        return source
    _log.info("split %s is packed without teacher: %d of %d files absent", keyframes.name, len(absent), len(keyframes))
    return open_source(config, keyframes, with_teacher=False)


def _require_own_shards(output: Path, split: str, count: int) -> None:
    own = re.compile(rf"{re.escape(split)}-\d+-of-(\d+)\.json")  # and not, say, of a split train-night
    counts = {path: int(match[1]) for path in output.glob("*.json") if (match := own.fullmatch(path.name))}
    strangers = sorted(path for path, found in counts.items() if found != count)
    if strangers:
        raise DataError(
            f"{output} holds {split} in another number of shards than {count}, such as {strangers[0].name}; keep "
            "--samples-per-shard as it was, or choose another --output"
        )


def _is_finished(job: _Job, keyframes: SplitIndex) -> bool:
    """Whether the shard is there; raises DataError when it is there but holds something else."""
    manifest = job.folder / f"{job.name}.json"
    if not manifest.exists():
        return False
    shard = read_shard(manifest)
    wanted = {**job.facts, "tokens": [keyframes.tokens[row] for row in job.rows]}
    found = {**shard.facts, "tokens": shard.tokens}
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        listed = "; ".join(
            "other samples" if name == "tokens" else f"{name} {found.get(name)!r}, now {wanted[name]!r}"
            for name in different
        )
        raise DataError(
            f"{manifest} was packed with another configuration ({listed}); choose another --output, or delete the "
            "folder to pack it again"
        )
    return shard.path.exists() and shard.path.stat().st_size == shard.size_bytes


def _run(jobs: list[_Job], config: Config, source: FileSource, workers: int) -> Iterator[tuple[_Job, int, str]]:
    if workers <= 1 or len(jobs) < 2:
        for job in jobs:
            yield job, *_pack_shard(job, config, source)
        return
    # Spawned: a fork of a process that has threads (grain, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_start_worker, initargs=(config, source)
    )
    try:
        running = {pool.submit(_pack_shard_in_worker, job): job for job in jobs}
        for done in as_completed(running):
            yield running[done], *done.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a packing process died, most likely for want of memory; run the same command again with fewer --workers: "
            "finished shards are kept"
        ) from error
    finally:
        # Whoever stops early, by Ctrl-C or an error, need not wait for shards that nobody has begun.
        pool.shutdown(cancel_futures=True)


_shared: tuple[Config, FileSource] | None = None  # of a worker process: the index of a large split, once


def _start_worker(config: Config, source: FileSource) -> None:
    global _shared
    _shared = (config, source)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _pack_shard_in_worker(job: _Job) -> tuple[int, str]:
    return _pack_shard(job, *_shared)


def _pack_shard(job: _Job, config: Config, source: FileSource) -> tuple[int, str]:
    """Bytes written, and what went wrong."""
    tokens = [source.split.tokens[row] for row in job.rows]
    records = (encode_record(read_record(config, source, row)) for row in job.rows)
    try:
        return write_shard(job.folder, job.name, job.facts, tokens, records), ""
    except DataError as error:
        return 0, str(error)
    except OSError as error:
        return 0, f"cannot write to {job.folder}: {error.strerror}"


def read_record(config: Config, source: FileSource, row: int) -> Record:
    """The record of a row of the split of `source`; raises SampleError when a file cannot be read."""
    keyframes, parts = source.split, source.open(row)
    width, height = config.data.image_width, config.data.image_height
    images = {}
    for channel, column in zip(config.data.cameras, keyframes.camera_columns(config.data.cameras), strict=True):
        if column >= 0 and keyframes.camera_file[row, column]:
            image = np.zeros((height, width, 3), np.uint8)
            parts.draw_image(channel, plain_resize(keyframes.camera_size[row, column], (width, height)), image)
            images[channel] = filter_image(image)
    semantics, camera_mask = parts.labels()
    token = keyframes.tokens[row]
    return Record(
        token=token,
        images=images,
        points=parts.points() if config.loss.depth > 0 else None,
        semantics=semantics,
        camera_mask=camera_mask,
        teacher=None if source.teacher is None else source.teacher.read_compact(token),
    )
