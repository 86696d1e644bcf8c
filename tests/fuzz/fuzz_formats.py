"""Mutations of images, sweeps, pickles, weight files, records and overrides."""

import io
import json
import pickle
import random
import struct
import zipfile
import zlib

import numpy as np
from fuzz_bytes import mutate_array, mutate_bytes, mutate_tree, odd_value
from fuzz_npz import mutate_directory
from torch_files import Global, Pickler, tensor, write, write_legacy


def mutate_jpeg(data: bytes, r: random.Random) -> bytes:
    """Segments changed, left out, doubled or exchanged; holes and early ends in the scan."""
    parts, at = [], 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at : at + length])
        at += length
    scan = data[at:]
    kind, place = r.randrange(9), r.randrange(len(parts))
    if kind < 2:
        return mutate_bytes(data, r)
    if kind == 2:
        del parts[place]
    elif kind == 3:
        parts.insert(r.randrange(len(parts) + 1), parts[place])
    elif kind == 4:
        r.shuffle(parts)
    elif kind == 5:
        changed = bytearray(parts[place])
        changed[r.randrange(2, len(changed))] = r.choice((0, 1, 255, r.randrange(256)))
        parts[place] = bytes(changed)
    elif kind == 6:
        frame = next(i for i, part in enumerate(parts) if part[1] in (0xC0, 0xC2))
        size = struct.pack(">HH", r.choice((0, 1, 65_535, 180)), r.choice((0, 1, 65_535, 320)))
        parts[frame] = parts[frame][:5] + size + parts[frame][9:]
    elif kind == 7:
        cut = r.randrange(len(scan))
        scan = scan[:cut] + r.choice((b"\xff\xd9", bytes(len(scan) - cut - 2) + scan[-2:], b"\xff\xda" + scan[cut:]))
    else:
        scan += r.choice((bytes(9000), data, b"\xff" * 3000))
    return data[:2] + b"".join(parts) + scan


def mutate_png(data: bytes, r: random.Random) -> bytes:
    """Chunks whose checksums fit, with other sizes or content."""
    if r.random() < 0.3:
        return mutate_bytes(data, r)
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = r.randrange(len(chunks))
    kind, content = chunks[place]
    change = r.randrange(4)
    if change == 0:
        size = struct.pack(">II", r.choice((0, 1, 320, 1 << 31, 100_000)), r.choice((0, 180, 1 << 31, 100_000)))
        chunks[0] = b"IHDR", size + bytes(r.choice(([8, 2, 0, 0, 0], [16, 6, 0, 0, 1], [3, 9, 1, 1, 1])))
    elif change == 1:
        del chunks[place]
    elif change == 2:
        chunks[place] = kind, r.choice((b"", mutate_bytes(content, r), zlib.compress(bytes(20_000_000))))
    else:
        chunks.insert(r.randrange(len(chunks)), (r.choice((b"tEXt", b"iCCP", b"PLTE", b"acTL", kind)), content[:1000]))
    body = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(body)


def mutate_sweep(data: bytes, r: random.Random) -> bytes:
    if r.random() < 0.3:
        return mutate_bytes(data, r)
    points = np.frombuffer(data, np.float32).reshape(-1, 5)
    return np.ascontiguousarray(mutate_array(points, r)).tobytes()


# What pickles of strangers bring along: calls, states on whatever was allowed, containers that hold themselves.
_NAMES = (
    *(("os", "system"), ("builtins", "exec"), ("builtins", "eval"), ("builtins", "getattr"), ("subprocess", "Popen")),
    *(("collections", "OrderedDict"), ("argparse", "Namespace"), ("torch", "Size"), ("torch", "FloatStorage")),
    *(("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("numpy", "dtype")),
    *(("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar")),
    *(("numpy.core.numeric", "_frombuffer"), ("_codecs", "encode"), ("functools", "partial")),
)
_ARGUMENTS = (
    *(b")", b"(X\x0d\x00\x00\x00touch executedt", b"(K\x01K\x02t", b"(N}]t", b"(X\x02\x00\x00\x00f8t", b"((K\x01tt"),
    *(b"(X\x02\x00\x00\x00O8\x89\x88t", b"(C\x04abcdX\x06\x00\x00\x00latin1t"),
)
_STATES = (
    b"}",
    b"}X\x05\x00\x00\x00itemsK\x01s",
    b"N}X\x08\x00\x00\x00__call__K\x01s\x86",
    b"(K\x01K\x02K\x03t",
    b"K\x01",
)


# Lengths that nothing follows: a byte string, an integer, digits, a memo that nobody wrote.
_LENGTHS = (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x00", b"\x8b\xff\xff\xff\x7f", b"L" + b"9" * 5000 + b"L\n", b"h\xff")


def _hostile(r: random.Random) -> bytes:
    """Opcodes that leave one object on the stack."""
    module, name = r.choice(_NAMES)
    found = b"c" + f"{module}\n{name}\n".encode()
    kind = r.randrange(7)
    if kind == 0:
        return found + r.choice(_ARGUMENTS) + b"R"
    if kind == 1:
        return found + r.choice(_STATES) + b"b"
    if kind == 2:
        return found + r.choice(_ARGUMENTS) + b"R" + r.choice(_STATES) + b"b"
    if kind == 3:
        return found + r.choice(_ARGUMENTS) + b"\x81" + r.choice(_STATES) + b"b"
    if kind == 4:  # lists of lists, doubled thirty times
        return b"]q\xc8K\x01a" + b"".join(b"]h\xc8ah\xc8aq\xc8" for _ in range(30))
    if kind == 5:
        return b"(" + b"]" * r.choice((10, 5000)) + b"l"
    return r.choice(_LENGTHS)


def mutate_pickle(data: bytes, r: random.Random) -> bytes:
    kind = r.random()
    if kind < 0.4:
        return mutate_bytes(data, r)
    if kind < 0.7:
        return data[:2] + _hostile(r) + b"."
    # In the place of something that belongs there, wherever an opcode takes no argument.
    places = [i for i in range(2, len(data)) if data[i : i + 1] in (b"N", b"}", b"]", b")")]
    place = r.choice(places or [2])
    return data[:place] + _hostile(r) + data[place + 1 :]


def mutate_info(data: bytes, r: random.Random) -> bytes:
    """Either opcodes or what they build."""
    if r.random() < 0.6:
        return mutate_pickle(data, r)
    return pickle.dumps(mutate_tree(pickle.loads(data), r), protocol=r.choice((2, 4)))


def weights(r: random.Random | None, path, legacy: bool) -> bytes:
    """A checkpoint of three tensors, with numbers that do not fit where `r` is given."""
    values = {"0": np.arange(24, dtype=np.float32), "1": np.ones(3, np.float16), "2": np.zeros(64, np.float32)}
    kinds = {"0": "FloatStorage", "1": "HalfStorage", "2": "FloatStorage"}
    shapes = {"0": ((2, 3, 4), (12, 4, 1)), "1": ((3,), (1,)), "2": ((64,), (1,))}
    options = {key: {"offset": 0, "storage": kinds[key], "numel": values[key].size} for key in values}
    if r is not None:
        key = r.choice(list(values))
        odd = (-1, 0, 3, 1 << 40, 1 << 70, 1.5, "x", None, True)
        for _ in range(r.choice((1, 2))):
            change = r.randrange(4)
            if change == 0:
                size = r.choice((1, 2, 3, 40))
                shapes[key] = tuple(tuple(r.choice((*odd, 1, 1, 1)) for _ in range(size)) for _ in range(2))
            elif change == 1:
                shapes[key] = (
                    r.choice(((1 << 20, 1 << 20), (1 << 40,), (64, 64))),
                    r.choice(((0, 0), (0,), (1, 1), (1, 0))),
                )
            elif change == 2:
                options[key]["offset"] = r.choice(odd)
            else:
                options[key]["storage"] = r.choice(("LongStorage", "BFloat16Storage", "BoolStorage", "QUInt8Storage"))
        if r.random() < 0.3:
            del values[key]
    named = {f"layer.{key}": tensor(key, *shapes[key], **options[key]) for key in shapes}
    content = {"model_state": named, "epoch": 3, "args": Global("argparse", "Namespace")}
    (write_legacy if legacy else write)(path, content, values)
    return path.read_bytes()


def mutate_weights(data: bytes, r: random.Random, path) -> bytes:
    kind, legacy = r.random(), not data.startswith(b"PK")
    if kind < 0.2:
        return mutate_bytes(data, r)
    if kind < 0.3 and not legacy:
        return mutate_directory(data, r)
    if kind < 0.6:
        return weights(r, path, legacy)
    if legacy:
        return mutate_pickle(data, r)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(stream, "w") as other:
        for name in archive.namelist():
            value = archive.read(name)
            if name.endswith("data.pkl"):
                value = mutate_pickle(value, r)
            method = zipfile.ZIP_DEFLATED if r.random() < 0.1 else zipfile.ZIP_STORED
            other.writestr(name, bytes(50_000_000) if method and "data/" in name else value, compress_type=method)
    return stream.getvalue()


def pickled(content) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def mutate_headed(data: bytes, r: random.Random) -> bytes:
    """JSON behind its length and before the bytes that it describes: safetensors and records."""
    kind, (length,) = r.random(), struct.unpack("<Q", data[:8])
    if kind < 0.3:
        return mutate_bytes(data, r)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if kind < 0.9:
        header = json.dumps(mutate_tree(json.loads(header), r)).encode()
        size = len(header) if r.random() < 0.9 else r.choice((0, 1 << 40, (1 << 64) - 1, len(header) - 1))
        return struct.pack("<Q", size) + header + rest
    return struct.pack("<Q", r.choice((0, 1 << 63, len(data), 100_000_001))) + data[8:]


def mutate_override(arguments: list[str], r: random.Random) -> list[str]:
    """Command lines: values of other types, sections as values, mistyped names, brackets that do not close."""
    path, _, _ = r.choice(arguments).partition("=")
    kind = r.randrange(5)
    if kind == 0:
        path = path[: r.randrange(2, len(path))] + r.choice(("", ".", "..", ".x", "=", " "))
    values = (
        "",
        "(",
        "((1,)",
        "(1,2,3)",
        "('CAM_FRONT',)",
        "CAM_FRONT,CAM_BACK",
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "9" * 400,
    )
    values += (
        "True",
        "None",
        "[]",
        "{}",
        "__import__('os').system('touch executed')",
        "é",
        "\ud800",
        "1.5",
        "0.1",
        "lambda: 0",
    )
    odd = odd_value(r)
    value = r.choice((*values, odd if isinstance(odd, str) else repr(odd)[:2000]))
    return [f"{path}={value}"] if kind else [path]
