"""Folders of packed samples: ArrayRecord shards, each with a manifest that says what it holds."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from occjax.config import Config
from occjax.data.records import VERSION, WRITER_OPTIONS
from occjax.errors import DataError
from occjax.label_sets import label_set
from occjax.storage import write_json
from occjax.targets.folder import TeacherLayout

SCHEMA = "occjax-records"
SHARD_SUFFIX = ".array_record"
_TEACHER_FIELDS = ("grid", "contents", "max_active_voxels")


class Shard(NamedTuple):
    """One finished shard.

    Attributes:
      path: of the ArrayRecord file.
      facts: what all of its records share; see `make_facts`.
      tokens: of its samples, in order.
      size_bytes: of the file.
    """

    path: Path
    facts: dict
    tokens: list[str]
    size_bytes: int


def make_facts(config: Config, teacher: TeacherLayout | None) -> dict:
    """What records depend on, as it is written into manifests.

    The model's grid and the depth range are not among it: labels and teacher are packed on the grids of their files,
    LiDAR as points.
    """
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "image_height": config.data.image_height,
        "image_width": config.data.image_width,
        "cameras": list(config.data.cameras),
        "labels": config.data.labels,
        "label_grid": label_set(config.data.labels).grid.to_dict(),
        "lidar": config.loss.depth > 0,
        "teacher": None
        if teacher is None
        else _as_json_reads_it({name: teacher.manifest[name] for name in _TEACHER_FIELDS}),
    }


def require_fit(shard: Shard, config: Config) -> None:
    """Raises DataError listing everything in which a shard does not serve the configuration."""
    wanted = make_facts(config, None)
    found = shard.facts
    problems = [
        f"{name} is {found.get(name)!r}, the configuration wants {wanted[name]!r}"
        for name in ("schema", "version", "image_height", "image_width", "labels", "label_grid")
        if found.get(name) != wanted[name]
    ]
    strangers = sorted(set(wanted["cameras"]) - set(found.get("cameras", ())))
    if strangers:
        problems.append(f"cameras are {found.get('cameras')}, the configuration also wants {', '.join(strangers)}")
    if wanted["lidar"] and not found.get("lidar"):
        problems.append("it holds no LiDAR, the configuration has loss.depth above 0")
    if problems:
        raise DataError(
            f"records {shard.path} do not fit the configuration: " + "; ".join(problems) + "; use the configuration "
            "that they were packed with, or pack again, into another folder: python converters/pack.py --config=... "
            "--output=<another folder>"
        )


def _as_json_reads_it(value: dict) -> dict:
    """The value as JSON gives it back, with lists for tuples, so that it compares equal to what was read."""
    return json.loads(json.dumps(value))


def shard_name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}"


def read_shards(folder: Path) -> list[Shard]:
    """All finished shards of a folder, by name; a shard without manifest was not finished.

    Raises:
      DataError: no folder, no shard in it, a manifest that cannot be read, or a shard file that is gone or cut.
    """
    if not folder.is_dir():
        raise DataError(
            f"records folder {folder} does not exist; pack it with python converters/pack.py --config=... "
            f"--output={folder}, or leave data.records_dir empty to read files"
        )
    shards = []
    for path in sorted(folder.glob("*-of-*.json")):
        shard = read_shard(path)
        try:
            size = shard.path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{shard.path} cannot be read ({error.strerror}), but {path} lists it; {_repack(path)}"
            ) from error
        if size != shard.size_bytes:
            raise DataError(f"{shard.path} has {size} bytes, {path} says {shard.size_bytes}; {_repack(path)}")
        shards.append(shard)
    if not shards:
        raise DataError(f"{folder} holds no finished shard; pack it with converters/pack.py --output={folder}")
    return shards


def read_shard(manifest: Path) -> Shard:
    """The shard that a manifest describes.

    Raises:
      DataError: the manifest cannot be read.
    """
    try:
        content = json.loads(manifest.read_text())
        shard = Shard(
            manifest.with_suffix(SHARD_SUFFIX), content["facts"], content["tokens"], int(content["size_bytes"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"manifest {manifest} cannot be read ({error}); {_repack(manifest)}") from error
    if content.get("samples") != len(shard.tokens):
        raise DataError(
            f"manifest {manifest} lists {len(shard.tokens)} tokens of {content.get('samples')} samples; "
            f"{_repack(manifest)}"
        )
    return shard


def _repack(manifest: Path) -> str:
    return f"delete {manifest} and run converters/pack.py again: it writes what is missing"


def write_shard(folder: Path, name: str, facts: dict, tokens: list[str], records: Iterable[bytes]) -> int:
    """Writes a shard under a temporary name, renames it, then writes its manifest; returns the bytes written.

    Args:
      folder: must exist.
      name: see `shard_name`.
      facts: see `make_facts`.
      tokens: of the samples, in the order of `records`.
      records: one per token; whatever their iterator raises leaves no file behind.

    Raises:
      DataError: the shard cannot be written.
      OSError: it cannot be renamed.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    for abandoned in folder.glob(f".{name}.*.tmp"):
        abandoned.unlink(missing_ok=True)
    path, manifest = folder / f"{name}{SHARD_SUFFIX}", folder / f"{name}.json"
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        try:
            writer = ArrayRecordWriter(str(temporary), WRITER_OPTIONS)
            try:
                for _, record in zip(tokens, records, strict=True):
                    writer.write(record)
            finally:
                writer.close()
        except RuntimeError as error:  # ArrayRecord knows no other
            raise DataError(f"cannot write {path}: {error}") from error
        size = temporary.stat().st_size
        os.replace(temporary, path)
        write_json(manifest, {"samples": len(tokens), "size_bytes": size, "facts": facts, "tokens": tokens})
    finally:
        temporary.unlink(missing_ok=True)
    return size
