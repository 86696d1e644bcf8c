"""Shards of records, packed from a split's files: in parallel, each whole or not at all, finished ones left alone."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from occjax.config import Config
from occjax.convert.processes import map_in_processes
from occjax.data.augment import plain_resize
from occjax.data.index import Index, SplitIndex
from occjax.data.parts import Parts
from occjax.data.records import encode_record, make_facts, read_shard, shard_name, write_shard
from occjax.data.sources import SampleParts, SampleSource, open_source, unlabelled_rows
from occjax.errors import DataError, UserError
from occjax.system.progress import Progress
from occjax.targets.reader import complete_teacher, open_teacher

# Every image is decoded, so that a shard holds none that a reader would refuse; this small, it is done cheaply.
_CHECKED_SIZE = (64, 32)


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


class _ShardTask(NamedTuple):
    folder: Path
    name: str
    facts: dict
    source: SampleSource  # of its own samples

    @property
    def tokens(self) -> list[str]:
        return self.source.split.tokens


def parts_to_pack(config: Config, split: SplitIndex) -> Parts:
    """What records of a split hold: all that a configuration reads, and what else is whole.

    LiDAR where depth is supervised; labels, unless no sample has any; the teacher where all samples have targets, which
    distillation asks of the training split.

    Raises:
      UserError: the configuration reads records.
      As `occjax.targets.reader.open_teacher`.
    """
    if config.data.records_dir:
        raise UserError("records are packed from files: leave data.records_dir empty")
    # Validation does without a teacher, and only says how far the student agrees where there is one.
    is_needed = config.loss.distill.is_on and split.name == config.data.train_split
    return Parts(
        lidar=config.loss.depth > 0,
        labels=len(unlabelled_rows(config.data, split)) < len(split),
        teacher=open_teacher(config) if is_needed else complete_teacher(config, split.name, split.tokens),
    )


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
    """Packs the files of a split; `parts_to_pack` says which.

    Args:
      config: cameras, labels, teacher; nothing else shapes a record.
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
    source = open_source(config.data, keyframes, parts_to_pack(config, keyframes))
    source.store.require_complete()
    count = -(-len(keyframes) // samples_per_shard)
    # Before the folder is filled: two ways to cut a split would overlap without a sign.
    _require_own_shards(output, split, count)
    facts = make_facts(config.data, source.parts)
    tasks = []
    for number in range(part[0], count, part[1]):
        # A task carries its own rows alone: those of a large split take a while to travel to a process.
        rows = np.arange(len(keyframes))[number * samples_per_shard :][:samples_per_shard]
        of_shard = open_source(config.data, keyframes.take(split, rows), source.parts)
        tasks.append(_ShardTask(output, shard_name(split, number, count), facts, of_shard))
    pending = [task for task in tasks if not _is_finished(task)]
    total = sum(len(task.tokens) for task in pending)
    result = Packing(kept=sum(len(task.tokens) for task in tasks) - total)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {output}: {error.strerror}; choose another --output") from error
    lines = Progress(split, total, progress, every_s=0.0)
    if_one_dies = DataError(
        "a packing process died, most likely for want of memory; run the same command again with fewer --workers: "
        "finished shards are kept"
    )
    outcomes = map_in_processes(_pack_shard, pending, workers, if_one_dies=if_one_dies)
    for task, (size, failure) in zip(pending, outcomes, strict=True):
        if failure:
            result.failures.append((task.name, failure))
            continue
        result.written += len(task.tokens)
        result.bytes_written += size
        megabytes = result.bytes_written / 1e6
        lines.advance(len(task.tokens), f"{megabytes:.1f} MB written ({megabytes / result.written:.2f} MB each)")
    return result


def _require_own_shards(output: Path, split: str, count: int) -> None:
    own = re.compile(rf"{re.escape(split)}-\d+-of-(\d+)\.json")  # and not, say, of a split train-night
    counts = {path: int(match[1]) for path in output.glob("*.json") if (match := own.fullmatch(path.name))}
    strangers = sorted(path for path, found in counts.items() if found != count)
    if strangers:
        raise DataError(
            f"{output} holds {split} in another number of shards than {count}, such as {strangers[0].name}; keep "
            "--samples-per-shard as it was, or choose another --output"
        )


def _is_finished(task: _ShardTask) -> bool:
    """Whether the shard is there; raises DataError when it is there but holds something else."""
    manifest = task.folder / f"{task.name}.json"
    if not manifest.exists():
        return False
    shard = read_shard(manifest)
    # Tokens too: another version of the tables may have as many samples.
    wanted = {**task.facts, "tokens": task.tokens}
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
    # A manifest comes last, so that it vouches for the file; but copying may have cut that since.
    return shard.path.exists() and shard.path.stat().st_size == shard.size_bytes


def _pack_shard(task: _ShardTask) -> tuple[int, str]:
    """Bytes written, and what went wrong."""
    records = (encode_record(token, _read_files(task.source, row)) for row, token in enumerate(task.tokens))
    try:
        return write_shard(task.folder, task.name, task.facts, task.tokens, records), ""
    except DataError as error:
        return 0, str(error)
    except OSError as error:
        return 0, f"cannot write to {task.folder}: {error.strerror}"


def _read_files(source: SampleSource, row: int) -> dict[str, bytes]:
    """The bytes of a sample's files by kind, each decoded once; raises SampleError where a reader would."""
    split, parts, cameras = source.split, source.parts, source.data.cameras
    stored = source.store.open(row)
    files = {}

    def read(kind: str) -> bytes:
        files[kind] = stored.read(kind)
        return files[kind]

    sample = SampleParts(source, row, stored._replace(read=read))
    image = np.empty((*_CHECKED_SIZE[::-1], 3), np.uint8)
    for channel, column in zip(cameras, split.camera_columns(cameras), strict=True):
        if column >= 0 and split.camera_file[row, column]:
            # Missing cameras have no file, and none is looked for.
            size = split.camera_size[row, column]
            sample.draw_image(channel, plain_resize(size, _CHECKED_SIZE), image)
    if parts.lidar:
        sample.points()
    if parts.labels:
        sample.labels()
    if parts.teacher:
        sample.teacher()
    return files
