"""Three hundred damaged inputs, another one of every kind in turn: no trace, no hang, nothing executed or left behind.

Ten thousand, and other seeds: python tests/fuzz/run.py --cases=10000 --seed=1.
"""

import logging
import tracemalloc

import pytest
from fuzz_cases import Fuzzer, Target
from fuzz_targets import make_targets

from occjax.errors import DataError

CASES = 300


@pytest.mark.filterwarnings("ignore")  # decoders and numpy warn of what they meet
def test_no_reader_breaks_on_damaged_input(tmp_path):
    logging.disable(logging.WARNING)
    try:
        fuzzer = Fuzzer(tmp_path, make_targets(tmp_path), seed=0)
        for case in range(CASES):
            fuzzer.run(case)
    finally:
        logging.disable(logging.NOTSET)
        tracemalloc.stop()
    assert not fuzzer.findings, fuzzer.table()
    # Mutations that change nothing, or that nothing survives, would find nothing.
    assert sum(fuzzer.refused.values()) > CASES // 3 and sum(fuzzer.accepted.values()) > CASES // 10


def _found(tmp_path, read, **options) -> str:
    sane = {"is": True}

    def guarded(data: bytes) -> None:
        if not sane["is"]:
            read(data)

    fuzzer = Fuzzer(tmp_path, {"it": Target(b"", lambda data, _: b"x", guarded, **options)}, seed=0)
    sane["is"] = False
    fuzzer.run(0)
    return fuzzer.findings[0].what if fuzzer.findings else ""


def test_what_a_reader_must_not_do_is_noticed(tmp_path, monkeypatch):
    """The fuzzer itself: each of its rules, broken once."""
    import os
    import time

    def refuse(data):
        raise DataError("in words")

    assert _found(tmp_path, refuse) == "" and _found(tmp_path, len) == ""
    assert _found(tmp_path, int).startswith("ValueError: invalid literal")
    assert _found(tmp_path, lambda data: bytearray(100_000_000)) == "takes 100 MB, the sane case 0.0 MB"
    assert _found(tmp_path, lambda data: os.system("true")) == "executes os.system"
    assert _found(tmp_path, lambda data: (tmp_path / "half.tmp").touch(), may_write=True) == "leaves half.tmp"
    assert _found(tmp_path, lambda data: (tmp_path / "other").touch()) == "leaves other"
    monkeypatch.setattr("fuzz_cases.LONGEST_S", 0.2)
    assert _found(tmp_path, lambda data: time.sleep(5)) == "hangs, stopped after 0.2 s"
