"""Two real processes predict their own halves of each batch, and each gets its own rows back."""

import json
import socket
import subprocess
import sys

_WORKER = """
import json, sys
import jax
import numpy as np
port, process = sys.argv[1], int(sys.argv[2])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", 2, process)
from occjax.predict.forward import make_rows_fn
from occjax.system.mesh import make_mesh, replicated

mesh = make_mesh()
double = jax.device_put(np.float32(2), replicated(mesh))

def function(batch, factor):
    # A loop over the samples is what the comparison with the teacher is made of.
    return {"loop": jax.lax.map(lambda row: row.sum() * factor, batch), "whole": batch * factor}

rows = np.arange(process * mesh.size // 2, (process + 1) * mesh.size // 2, dtype=np.float32)[:, None]
found = make_rows_fn(function, mesh)(rows, double)
print(json.dumps({name: [rows.ravel().tolist(), values.ravel().tolist()] for name, values in found.items()}))
"""


def test_every_process_gets_its_own_rows():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(port), str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [worker.communicate(timeout=300) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), outputs
    for out, _ in outputs:
        for rows, values in json.loads(out.strip().splitlines()[-1]).values():
            assert values == [2 * row for row in rows]
    assert outputs[0][0] != outputs[1][0]
