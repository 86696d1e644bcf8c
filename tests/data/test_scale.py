"""nuScenes' size: 34,149 keyframes start in seconds, in little memory, and two hosts share a global shuffle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nuscenes_root import token, write_root

from occjax.config import NUSCENES_CAMERAS
from occjax.data import index as index_module
from occjax.data import tables
from occjax.grid import SURROUNDOCC_GRID
from occjax.targets.files import write_manifest

KEYFRAMES, SCENES, TRAIN_SCENES = 34_149, 850, 700
REPOSITORY = Path(__file__).resolve().parents[2]

# One host's part of an epoch. Samples are not read: there are no images to read, and what is measured is the rest.
HOST = """
import json, sys, time
from pathlib import Path
import numpy as np
import grain
from occjax.config import Config
from occjax.data import pipeline
from occjax.data.index import load_index
from occjax.train.parts import training_parts
from occjax.types import Batch

def resident_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3

root, host = sys.argv[1], int(sys.argv[2])
config = Config()
config.data.root, config.data.teacher_dir = root, root + "/teacher"
config.data.batch_size, config.data.workers = 16, 0
config.loss.distill.voxel_kl = 1.0
pipeline.SampleReader.__call__ = lambda self, row, rng: Batch(*[None] * 5, np.int32(row), np.bool_(True))

before, start = resident_mb(), time.perf_counter()
index = load_index(config.data)
loader = pipeline.make_train_loader(config, index, training_parts(config), process_index=host, process_count=2)
first = next(loader)
startup_s = time.perf_counter() - start
size = len(index.split("train"))
rows = first.sample_index.tolist()
for _ in range(size // 16 - 1):
    rows += next(loader).sample_index.tolist()
loader.close()
print(json.dumps({"size": size, "startup_s": startup_s, "growth_mb": resident_mb() - before, "rows": rows}))
"""


def write_trainval(root: Path) -> None:
    """Tables of one keyframe, an index that makes 34,149 of it, and the (empty) files that the index names."""
    write_root(root, scenes={"scene-0061": 1}, cameras=NUSCENES_CAMERAS)
    arrays, facts = tables.read_tables(root, "v1.0-trainval")
    big = {key: np.repeat(arrays[key], KEYFRAMES, axis=0) for key in index_module._ROW_ARRAYS}
    names = [f"n015-2018-07-24-11-22-45+0800__{row:045d}" for row in range(KEYFRAMES)]  # as long as nuScenes' own
    # Labels and images share a folder, and so do all cameras: the checks look at names.
    big["camera_file"] = np.array([[f"samples/{c}/{name}.npy" for c in NUSCENES_CAMERAS] for name in names], "S")
    big["lidar_file"] = np.array([f"samples/LIDAR_TOP/{name}" for name in names], "S")
    big["sample_token"] = np.array([token(row) for row in range(KEYFRAMES)], "S")
    big["scene"] = (np.arange(KEYFRAMES) * SCENES // KEYFRAMES).astype(np.int32)
    big["scene_token"] = np.array([token("scene", i).encode() for i in range(SCENES)])
    big["scene_name"] = np.array([f"scene-{i:04d}".encode() for i in range(SCENES)])
    facts["official_splits"] = {"train": [f"scene-{i:04d}" for i in range(TRAIN_SCENES)]}
    fingerprint = index_module._fingerprint(root, "v1.0-trainval")
    index_module._write_cache([root / "occjax_index"], "v1.0-trainval.npz", big, facts, fingerprint)

    labels = root / "surroundocc" / "samples"
    (root / "samples").rename(root / "one_keyframe")
    for folder in (root / "samples" / "LIDAR_TOP", root / "teacher"):
        folder.mkdir(parents=True)
    for camera in NUSCENES_CAMERAS:
        (root / "samples" / camera).symlink_to(labels)
    for name, sample in zip(names, big["sample_token"], strict=True):
        for path in (
            labels / f"{name}.npy",
            root / "samples/LIDAR_TOP" / name,
            root / f"teacher/{sample.decode()}.npz",
        ):
            os.mknod(path)
    write_manifest(
        root / "teacher",
        grid=SURROUNDOCC_GRID,
        form="compact",
        samples=KEYFRAMES,
        max_active_voxels=60_000,
        contents={"voxels": True, "bev": False, "validity": False},
        source="",
        matched_by="token",
        value_kind={},
        details={},
    )


def test_two_hosts_start_fast_stay_small_and_share_one_global_shuffle(tmp_path):
    root = tmp_path / "nuscenes"
    write_trainval(root)
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
        assert found["startup_s"] < 10
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
