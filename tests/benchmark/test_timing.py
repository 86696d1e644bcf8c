import re
from pathlib import Path

import pytest

from occjax.benchmark.timing import machine


@pytest.mark.parametrize(
    ("flags", "vectors"),
    [("fpu avx avx2 avx512f avx512bw", "avx512f"), ("fpu avx avx2 fma", "avx2"), ("fpu sse2", "no AVX")],
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
