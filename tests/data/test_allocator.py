"""A loader process that keeps freed memory asks the kernel for none from one sample to the next."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from occjax.data.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()

def sample():
    return [np.ones(1 << 20, np.uint8) for _ in range(8)]  # freed together, as the arrays of a sample are

sample()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    sample()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again():
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True).stdout
        )
        for mode in ("keep", "return")
    }
    assert faults["keep"] < 20 < 500 < faults["return"]
