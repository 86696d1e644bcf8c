"""Three hundred damaged inputs, another one of every kind in turn: no trace, no hang, nothing executed or left behind.

Ten thousand, and other seeds: python tests/fuzz/run.py --cases=10000 --seed=1.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fuzz_cases import Fuzzer, Target

from occjax.errors import DataError

CASES = 300


def test_no_reader_breaks_on_damaged_input():
    """In a process of its own: memory is traced there, which slows down all that follows."""
    command = [sys.executable, str(Path(__file__).with_name("run.py")), f"--cases={CASES}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.rsplit(maxsplit=6) for line in result.stdout.splitlines() if line.endswith(" s")]
    accepted, refused = (sum(int(row[column]) for row in rows) for column in (2, 3))
    # Mutations that change nothing, or that nothing survives, would find nothing.
    assert refused > CASES // 3 and accepted > CASES // 10 and accepted + refused == CASES


@pytest.fixture
def untraced():
    """What a fuzzer in this process traces, the tests after it need not."""
    yield
    tracemalloc.stop()


def _found(tmp_path, read, **options) -> str:
    sane = {"is": True}

    def guarded(data: bytes) -> None:
        if not sane["is"]:
            read(data)

    fuzzer = Fuzzer(tmp_path, {"it": Target(b"", lambda data, _: b"x", guarded, **options)}, seed=0)
    sane["is"] = False
    fuzzer.run(0)
    return fuzzer.findings[0].what if fuzzer.findings else ""


def test_what_a_reader_must_not_do_is_noticed(tmp_path, monkeypatch, untraced):
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
