import mmap
import re
from pathlib import Path

import pytest

from occjax.benchmark.timing import machine, resident_bytes


@pytest.mark.parametrize(
    ("flags", "vectors"),
    [
        ("fpu avx avx2 avx512f avx512bw", "avx512f"),
        ("fpu avx avx2 fma", "avx2"),
        ("fpu sse2", "no AVX"),
        ("fpu amx_int8 avx2 avx_vnni", "avx2, avx_vnni, amx_int8"),
    ],
)
def test_the_processor_is_named_with_its_vector_instructions(monkeypatch, flags, vectors):
    text = f"processor : 0\nmodel name : Some: CPU\nflags : {flags}\n"
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert re.fullmatch(rf"\d+ cores of Some: CPU \({vectors}\), load \d+\.\d", machine())


def test_where_the_processor_is_not_described_its_kind_is_named(monkeypatch):
    def absent(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert "(no AVX)" in machine()


def test_resident_memory_grows_by_what_is_held():
    before = resident_bytes()
    # Pages of its own, each touched in one place: an allocator might hand out what it has kept, or keep what it gets.
    with mmap.mmap(-1, 64 << 20) as held:
        held[:: mmap.PAGESIZE] = b"\x01" * (len(held) // mmap.PAGESIZE)
        grown = resident_bytes() - before
    assert grown == pytest.approx(64 << 20, rel=0.1)
