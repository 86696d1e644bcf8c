"""Records of samples: the original bytes of all files of a sample in one, many to a shard, each with a manifest.

A record saves opens, not decoding: its bytes are those of the files, which are compressed already, and they are read by
the same readers. What a model's configuration says of size, grid or range plays no part in it.
"""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from occjax.config import DataConfig
from occjax.data.parts import LABELS, LIDAR, TEACHER, Parts
from occjax.errors import DataError
from occjax.storage import write_json, writing

SCHEMA = "occjax-records"
VERSION = 2  # raise it whenever the bytes of a record change
# The suffix that the format's own tools expect.
SHARD_SUFFIX = ".array_record"
# One record per group, since samples are read in any order; uncompressed, since JPEG and .npz already are.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# What decoding depends on, and what tells one teacher from another.
_TEACHER_FIELDS = ("source", "grid", "contents", "max_active_voxels")


def encode_record(token: str, files: dict[str, bytes]) -> bytes:
    """A sample's files by kind (camera channels and the kinds of `occjax.data.parts`) as one record."""
    header = json.dumps({"token": token, "sizes": {kind: len(data) for kind, data in files.items()}}).encode()
    # Length first: the header can then be found without a search, and the files are sliced, not parsed.
    return b"".join([struct.pack("<Q", len(header)), header, *files.values()])


def decode_record(record: bytes) -> tuple[str, dict[str, bytes]]:
    """Token and files of a record.

    Raises:
      DataError: no whole record.
    """
    try:
        (start,) = struct.unpack_from("<Q", record)
        end = start + 8
        header, start = json.loads(record[8:end]), end
        token, sizes = header["token"], header["sizes"].items()
        if not isinstance(token, str) or any(type(size) is not int or size < 0 for _, size in sizes):
            raise ValueError("a token and sizes from 0 on are needed")
        files = {}
        for kind, size in sizes:
            files[kind] = record[start : start + size]
            start += size
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise DataError(f"it cannot be decoded ({error})") from error
    # ArrayRecord has its checksum; this finds a record that was written short.
    if start != len(record):
        raise DataError(f"it has {len(record)} bytes, its header says {start}")
    return token, files


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


def make_facts(data: DataConfig, parts: Parts) -> dict:
    """What records hold, as it is written into manifests."""
    teacher = None if parts.teacher is None else {name: parts.teacher.manifest.get(name) for name in _TEACHER_FIELDS}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "cameras": list(data.cameras),
        LIDAR: parts.lidar,
        LABELS: data.labels if parts.labels else None,
        TEACHER: teacher,
    }


def require_fit(shard: Shard, data: DataConfig, parts: Parts) -> None:
    """Raises DataError listing all that is wanted and a shard does not hold, but for the teacher: its reader counts."""
    found = shard.facts
    problems = []
    strangers = sorted(set(data.cameras) - set(found.get("cameras", ())))
    if strangers:
        problems.append(f"cameras are {found.get('cameras')}, the configuration also wants {', '.join(strangers)}")
    if parts.lidar and not found.get(LIDAR):
        problems.append("it holds no LiDAR sweeps, which depth supervision needs (--config.loss.depth=0 does without)")
    if parts.labels and found.get(LABELS) != data.labels:
        problems.append(f"labels are {found.get(LABELS)!r}, the configuration wants {data.labels!r}")
    if problems:
        raise DataError(
            f"records {shard.path} do not fit: {'; '.join(problems)}; pack again, into another folder: "
            f"{packing_command('<another folder>')}"
        )


def packing_command(folder: Path | str) -> str:
    """The command line that adds what a folder lacks; the reader fills in the configuration."""
    return f"occjax pack --config=... --output={folder}"


def shard_name(split: str, number: int, count: int) -> str:
    """Name of the shard with this number, without suffix."""
    return f"{split}-{number:05d}-of-{count:05d}"


def read_shards(folder: Path) -> list[Shard]:
    """All finished shards of a folder, by name; a shard without manifest was not finished.

    Raises:
      DataError: no folder, no shard in it, a manifest that cannot be read, or a shard file that is gone or cut.
    """
    if not folder.is_dir():
        raise DataError(
            f"records folder {folder} does not exist; pack it with {packing_command(folder)}, or leave "
            "data.records_dir empty to read files"
        )
    shards = []
    # By name: the order of shards is the order of samples, for every process alike.
    for path in sorted(folder.glob("*-of-*.json")):
        shard = read_shard(path)
        try:
            size = shard.path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{shard.path} cannot be read ({error.strerror}), but {path} lists it; {repacking(path)}"
            ) from error
        # A cut shard would only fail when its last sample is read, hours into a training.
        if size != shard.size_bytes:
            raise DataError(f"{shard.path} has {size} bytes, {path} says {shard.size_bytes}; {repacking(path)}")
        shards.append(shard)
    if not shards:
        raise DataError(f"{folder} holds no finished shard; pack it with {packing_command(folder)}")
    return shards


def read_shard(manifest: Path) -> Shard:
    """The shard that a manifest describes.

    Raises:
      DataError: the manifest cannot be read, or is that of another occjax.
    """
    try:
        content = json.loads(manifest.read_text())
        path, facts, tokens = manifest.with_suffix(SHARD_SUFFIX), content["facts"], content["tokens"]
        if not isinstance(facts, dict) or type(content["size_bytes"]) is not int:
            raise TypeError("facts are an object, and size_bytes is a whole number")
        if not _are_texts(tokens):
            raise TypeError("tokens are a list of texts")
        if not _are_texts(facts.get("cameras", [])) or not {LIDAR, LABELS, TEACHER} <= facts.keys():
            raise TypeError(f"facts name cameras, {LIDAR}, {LABELS} and {TEACHER}")
        shard = Shard(path, facts, tokens, content["size_bytes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"manifest {manifest} cannot be read ({error}); {repacking(manifest)}") from error
    if content.get("samples") != len(shard.tokens):
        raise DataError(
            f"manifest {manifest} lists {len(shard.tokens)} tokens of {content.get('samples')} samples; "
            f"{repacking(manifest)}"
        )
    made_by = (facts.get("schema"), facts.get("version"))
    if made_by != (SCHEMA, VERSION):
        raise DataError(
            f"{manifest} describes {made_by[0]} of version {made_by[1]}, this occjax reads version {VERSION}; pack "
            f"again, into another folder: {packing_command('<another folder>')}"
        )
    return shard


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def repacking(manifest: Path) -> str:
    """What mends a shard that is damaged."""
    return f"delete {manifest} and run occjax pack again: it writes what is missing"


def write_shard(folder: Path, name: str, facts: dict, tokens: list[str], records: Iterable[bytes]) -> int:
    """Writes a shard, whole or not at all, then its manifest; returns the bytes written.

    Args:
      folder: for both.
      name: see `shard_name`.
      facts: see `make_facts`.
      tokens: of the samples, in the order of `records`.
      records: one per token; whatever their iterator raises leaves no file behind.

    Raises:
      DataError: the shard cannot be written.
      OSError: it cannot be renamed.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path, manifest = folder / f"{name}{SHARD_SUFFIX}", folder / f"{name}.json"
    for abandoned in folder.glob(f".{name}.*.tmp"):  # of a job that was killed
        abandoned.unlink(missing_ok=True)
    with writing(path) as scratch:
        try:
            writer = ArrayRecordWriter(str(scratch), _WRITER_OPTIONS)
            try:
                for _, record in zip(tokens, records, strict=True):
                    writer.write(record)
            finally:
                writer.close()
        except RuntimeError as error:  # ArrayRecord knows no other
            raise DataError(f"cannot write {path}: {error}") from error
        size = scratch.stat().st_size
    # Last: a shard counts as finished when its manifest is there.
    write_json(manifest, {"samples": len(tokens), "size_bytes": size, "facts": facts, "tokens": tokens})
    return size
