"""Two real processes score half of the samples each and agree on the whole."""

import json
import socket
import subprocess
import sys

import numpy as np

from occjax.classes import FREE
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.protocols import VoxelMiou

_WORKER = """
import json, sys
import jax
import numpy as np
port, process = sys.argv[1], int(sys.argv[2])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, process)
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.metrics.across_processes import merge, merge_over_processes
from occjax.metrics.protocols import VoxelMiou
state = VoxelMiou.empty(LABEL_SETS["surroundocc"], VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, (6, 5, 4)))
for row in range(process, 5, 2):
    rng = np.random.default_rng(row)
    truth, prediction = rng.integers(0, 18, (2, 6, 5, 4), np.uint8)
    state = state.update(prediction, truth)
for _ in range(32):
    state = merge(state, state)
state = merge_over_processes(state)
with open(sys.argv[3], "w") as file:  # the collectives of some versions of jax talk on standard output
    file.write(json.dumps({"samples": state.samples, "counts": state.unmasked.voxels.counts.tolist()}))
"""


def test_two_processes_count_every_sample_once(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", _WORKER, str(port)]
    files = [tmp_path / str(i) for i in range(2)]
    workers = [
        subprocess.Popen([*command, str(i), str(files[i])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), outputs
    found = [json.loads(path.read_text()) for path in files]
    state = VoxelMiou.empty(LABEL_SETS["surroundocc"], VoxelGrid("lidar", (-50.0, -50.0, -5.0), 0.5, (6, 5, 4)))
    for row in range(5):
        truth, prediction = np.random.default_rng(row).integers(0, FREE + 1, (2, 6, 5, 4), np.uint8)
        state = state.update(prediction, truth)
    assert found[0] == found[1]
    assert found[0]["samples"] == 5 * 2**32
    np.testing.assert_array_equal(found[0]["counts"], state.unmasked.voxels.counts * 2**32)
