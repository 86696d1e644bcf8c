"""What is read is what numpy reads; damage of every kind is an error, and nothing is unpacked that may not be."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from occjax.npz import ArrayFileError, read_npy, read_npz

ARRAYS = {
    "codes": np.random.default_rng(0).integers(0, 40, (9, 500), np.uint8),
    "text": np.array("a token"),
    "mask": np.ones((3, 4), bool),
    "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert list(read_npz(tmp_path / "a.npz", ("mask",))) == ["mask"]
    with pytest.raises(ArrayFileError, match="no array absent, but codes, text"):
        read_npz(tmp_path / "a.npz", ("absent",))


def test_damage_is_an_error(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    whole = path.read_bytes()
    for cut in (0, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(ArrayFileError):
            read_npz(path)
    for place in range(60, 600, 45):  # anywhere in the codes, which come first
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(ArrayFileError):
            read_npz(path)


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", thing=np.array([{}], object))
    with pytest.raises(ArrayFileError, match="Python objects never"):
        read_npz(tmp_path / "a.npz")


def test_what_is_no_array_or_no_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"x" * 1000)
    np.save(tmp_path / "b.npz.npy", np.arange(3))
    for name in ("a.npz", "b.npz.npy"):
        with pytest.raises(ArrayFileError):
            read_npz(tmp_path / name)
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    for start in (8, whole.index(b"PK\x01\x02") + 10):  # the compression method, in both headers
        whole[start] = 99
    with pytest.raises(ArrayFileError, match="compression"):
        read_npz(bytes(whole))


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def peak_mb(run) -> float:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def refused(data: bytes, match: str, **options):
    def run():
        with pytest.raises(ArrayFileError, match=match):
            read_npz(data, **options)

    return run


def test_what_is_too_large_is_not_unpacked():
    bomb = archive({"a.npy": npy(np.zeros(200_000_000, np.uint8))})
    assert len(bomb) < 1e6
    assert peak_mb(refused(bomb, "at most 1000000 are expected", largest=1_000_000)) < 4
    # A directory that lies: it says 1,000 bytes where 200 MB come out.
    lying = bytearray(bomb)
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", lying, bytes(lying).index(signature) + place, 1000)
    assert peak_mb(refused(bytes(lying), "bytes, but 8|CRC", largest=1_000_000)) < 4


def test_other_compressions_are_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.npy", npy(np.zeros(1000)))
    refused(stream.getvalue(), "a compression")()


HEADERS = {
    "more than there is": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }",
    "less than there is": "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
    "negative": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -10), }",
    "beyond 64 bits": "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000, 10000000000, 10000000000), }",
    "true": "{'descr': '|u1', 'fortran_order': False, 'shape': (True,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (10,), }",
    "records": "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (10,), }",
    "times": "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }",
    "empty text": "{'descr': '|S0', 'fortran_order': False, 'shape': (10,), }",
    "no type": "{'descr': 'nonsense', 'fortran_order': False, 'shape': (10,), }",
    "code": "__import__('os').system('touch executed')",
    "deep": "(" * 5000,
    "no dict": "[1, 2]",
    "half": "{'descr': '|u1', 'shape'",
    "long": "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 20000 + "), }",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_lie_are_refused(header, version):
    text = HEADERS[header].encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", min(len(text), 65_535))
    data = b"\x93NUMPY" + bytes((version, 0)) + length + text + bytes(10)

    def run():
        with pytest.raises(ArrayFileError):
            read_npy(data)

    assert peak_mb(run) < 10


def test_a_checksum_that_does_not_fit_is_an_error():
    data = bytearray(archive({"a.npy": npy(np.arange(100))}))
    place = bytes(data).index(b"PK\x01\x02") + 16
    struct.pack_into("<I", data, place, zlib.crc32(b"other"))
    refused(bytes(data), "CRC")()


def test_empty_arrays_and_scalars():
    for array in (np.zeros((0, 4), np.int32), np.array(3.5), np.array("text"), np.zeros((3, 0, 2))):
        found = read_npy(npy(array))
        assert found.shape == array.shape and found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
