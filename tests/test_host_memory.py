"""Freed memory is used again without a page fault, where the C library is glibc."""

import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource, sys
import numpy as np
from occjax.host_memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    print("unsupported")
    sys.exit()
np.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS, how], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_second_array_takes_the_memory_of_the_first():
    kept = faults("keep")
    if kept == "unsupported":
        pytest.skip("needs glibc")
    # 200 MB are 49 thousand pages of 4 kB, or 95 of 2 MB.
    assert int(kept) < 20 < int(faults("leave"))
