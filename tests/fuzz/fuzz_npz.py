"""Mutations of .npy and .npz files: headers, members with checksums that fit, and the directory of the archive."""

import functools
import io
import random
import struct
import zipfile
import zlib

import numpy as np
from fuzz_bytes import mutate_array, mutate_bytes

_DESCRIPTIONS = (
    "|O",
    "|O8",
    "|u1",
    "<f8",
    ">f4",
    "|S0",
    "<U100000",
    "|V3",
    "<M8[s]",
    "[('a', '<i4')]",
    "<c16",
    "",
    "x",
)
_SHAPES = (
    *("(1000000000000,)", "(-1,)", "()", "(0,)", "(True,)", "(2.0,)", "('a',)", "3", "None", "(1,) * 10**9"),
    *(
        "(10000000000, 10000000000, 10000000000)",
        "(200, 200, 16)",
        "(1, 2, 3, 4, 5, 6, 7, 8, 9) * 9",
        "(0, 99999999999)",
    ),
)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def mutate_npy(data: bytes, r: random.Random) -> bytes:
    kind = r.randrange(8)
    if kind < 2:
        return mutate_bytes(data, r)
    if kind < 5:
        return npy(mutate_array(np.load(io.BytesIO(data)), r))
    if kind == 5:
        return npy(np.array([{"a": 1}, Executed()], object))
    length = struct.unpack("<H", data[8:10])[0]
    header, content = data[10 : 10 + length].decode(), data[10 + length :]
    before, _, rest = header.partition("'descr': '")
    found, _, after = rest.partition("'")
    shape = after.partition("'shape': ")[2].partition("), ")[0] + ")"
    if kind == 6:
        description = r.choice(_DESCRIPTIONS)
        quoted = description if description.startswith("[") else f"'{description}'"
        header = header.replace(f"'{found}'", quoted, 1)
    else:
        texts = (f"'fortran_order': {r.choice(('True', '1', 'None'))}", f"'shape': {r.choice(_SHAPES)}")
        text = r.choice(texts)
        old = "'fortran_order': False" if text.startswith("'fortran") else f"'shape': {shape}"
        header = header.replace(old, text, 1)
        if r.random() < 0.15:
            header = r.choice(("__import__('os').system('true')", "(" * 3000, "{", "[1]", "\0", "1" * 5000, "{1: 2}"))
    encoded = header.encode()
    version = r.choice((1, 1, 2, 3, 9))
    size = struct.pack("<H" if version == 1 else "<I", len(encoded) if r.random() < 0.9 else r.choice((0, 65_535)))
    return data[:6] + bytes((version, 0)) + size + encoded + content


class Executed:
    """Says so when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


@functools.cache
def bomb() -> bytes:
    """A compressed .npy of 100 MB of zeros, raw deflate."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = npy(np.zeros(0, np.uint8))[:128]
    zeros = bytes(1 << 20)
    return b"".join([compressor.compress(data), *(compressor.compress(zeros) for _ in range(100)), compressor.flush()])


def mutate_npz(data: bytes, r: random.Random) -> bytes:
    kind = r.randrange(10)
    if kind < 2:
        return mutate_bytes(data, r)
    if kind < 4:
        return mutate_directory(data, r)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = r.randrange(len(members))
    name, content = members[place]
    method = r.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    if kind < 8:
        members[place] = name, mutate_npy(content, r)
    elif kind == 8:
        change = r.randrange(5)
        if change == 0:
            del members[place]
        elif change == 1:
            members.append((name + "x", content))
        elif change == 2:
            members[place] = name.removesuffix(".npy"), content
        elif change == 3:
            members[place] = name, data  # an archive in an archive
        else:
            members[place] = "../" + name, content
    else:
        return _with_bomb(members, place, r)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for member, value in members:
            archive.writestr(member, value)
    return stream.getvalue()


def _with_bomb(members: list[tuple[str, bytes]], place: int, r: random.Random) -> bytes:
    """One member unpacks to 100 MB, and the directory says so, or less, or nothing."""
    stream, marker = io.BytesIO(), b"\x00" * 64 + r.randbytes(64)
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (name, value) in enumerate(members):
            archive.writestr(name, marker if number == place else value)
    packed, data = bomb(), stream.getvalue()
    start = data.index(marker)
    shift = len(packed) - len(marker)
    changed = bytearray(data[:start] + packed + data[start + len(marker) :])
    declared = r.choice((100 << 20, 640_128, 1000, 0))
    for signature, fields in ((b"PK\x03\x04", (8, 14, 18, 22, 26, 30)), (b"PK\x01\x02", (10, 16, 20, 24, 28, 46))):
        at = -1
        while (at := bytes(changed).find(signature, at + 1)) >= 0:
            length = struct.unpack_from("<H", changed, at + fields[4])[0]
            name = bytes(changed[at + fields[5] : at + fields[5] + length])
            if name == members[place][0].encode():
                struct.pack_into("<H", changed, at + fields[0], zipfile.ZIP_DEFLATED)
                struct.pack_into("<I", changed, at + fields[2], len(packed))
                struct.pack_into("<I", changed, at + fields[3], declared)
            if signature == b"PK\x01\x02" and struct.unpack_from("<I", changed, at + 42)[0] > start:
                struct.pack_into("<I", changed, at + 42, struct.unpack_from("<I", changed, at + 42)[0] + shift)
    end = bytes(changed).rindex(b"PK\x05\x06")
    struct.pack_into("<I", changed, end + 16, struct.unpack_from("<I", changed, end + 16)[0] + shift)
    return bytes(changed)


def mutate_directory(data: bytes, r: random.Random) -> bytes:
    """A field of the archive's directory, of a member's header, or of the record at the end."""
    signature, size = r.choice(((b"PK\x03\x04", 30), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22)))
    places = []
    at = -1
    while (at := data.find(signature, at + 1)) >= 0:
        places.append(at)
    if not places:
        return mutate_bytes(data, r)
    changed = bytearray(data)
    for _ in range(r.choice((1, 1, 2))):
        field = r.choice(places) + 4 + 2 * r.randrange((size - 4) // 2)
        wide = r.choice(("<H", "<I"))
        if field + 4 <= len(changed):
            struct.pack_into(wide, changed, field, r.choice((0, 1, 8, 12, 99, 0xFFFF, r.randrange(1 << 16))))
    return bytes(changed)
