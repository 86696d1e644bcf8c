"""nuScenes' size: 34,149 keyframes need little memory, and two hosts share one global shuffle."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occjax.benchmark import loader_start

REPOSITORY = Path(__file__).resolve().parents[2]

# One host's part of an epoch. Samples are not read: there are no images to read, and what is measured is the rest.
HOST = """
import json, sys
from pathlib import Path
import numpy as np
import grain
from occjax.benchmark.loader_start import hollow_config
from occjax.data import pipeline
from occjax.data.index import load_index
from occjax.train.parts import training_parts
from occjax.types import Batch

def resident_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3

config, host = hollow_config(Path(sys.argv[1])), int(sys.argv[2])
pipeline.SampleReader.__call__ = lambda self, row, rng: Batch(*[None] * 5, np.int32(row), np.bool_(True))

before = resident_mb()
index = load_index(config.data)
loader = pipeline.make_train_loader(config, index, training_parts(config), process_index=host, process_count=2)
size = len(index.split("train"))
rows = [row for _ in range(size // 16) for row in next(loader).sample_index.tolist()]
loader.close()
print(json.dumps({"size": size, "growth_mb": resident_mb() - before, "rows": rows}))
"""


@pytest.mark.slow
def test_two_hosts_stay_small_and_share_one_global_shuffle(tmp_path):
    root = tmp_path / "nuscenes"
    loader_start.write_hollow_root(root)
    assert (root / "occjax_index/v1.0-trainval.npz").stat().st_size < 100e6
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(root), str(host)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        for host in range(2)
    ]
    first, second = (json.loads(host.communicate(timeout=120)[0]) for host in hosts)
    for found in (first, second):
        assert found["size"] == pytest.approx(28_130, abs=50)
        assert found["growth_mb"] < 300
    rows = [*first["rows"], *second["rows"]]
    # An epoch's last incomplete batch runs into the next epoch: fewer than a batch may be missing here.
    assert len(set(rows)) == len(rows) > found["size"] - 16
    # Global: the first hundredth of a host's samples comes from everywhere, not from a window or a shard.
    for found in (first, second):
        early = np.array(found["rows"][: len(found["rows"]) // 100])
        counts, _ = np.histogram(early, bins=4, range=(0, found["size"]))
        assert counts.min() > len(early) / 8
        assert np.mean(np.abs(np.diff(early))) > found["size"] / 5
