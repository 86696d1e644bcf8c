"""Start of training at nuScenes' size, beside a fiftieth of it: `python -m occjax.benchmark.loader_start`.

From the cached index to a loader that is ready for its first sample: tables' index, every file looked for, shuffle. No
data is needed: the roots are hollow, an index and empty files, in a temporary folder.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from occjax.benchmark.timing import machine
from occjax.config import NUSCENES_CAMERAS, Config, DataConfig
from occjax.data.index import load_index, tables_fingerprint, write_cache
from occjax.data.pipeline import make_train_loader
from occjax.data.table_checks import TABLES
from occjax.grid import SURROUNDOCC_GRID
from occjax.label_sets import LABEL_SETS
from occjax.synthetic.tables import make_token
from occjax.system.command_line import Parser, positive, say
from occjax.targets.files import write_manifest
from occjax.train.parts import training_parts

# Of nuScenes v1.0-trainval, whose training split has 28,130 of the keyframes.
KEYFRAMES, SCENES, TRAIN_SCENES = 34_149, 850, 700
VERSION = "v1.0-trainval"
_INTRINSICS = np.array([[1266, 0, 800], [0, 1266, 450], [0, 0, 1]], np.float32)  # as cameras of nuScenes have them
_SHRINK = 50  # the smaller root; its start is what does not depend on the size


def write_hollow_root(root: Path, keyframes: int = KEYFRAMES, scenes: int = SCENES) -> None:
    """Writes a nuScenes root whose tables, images, sweeps, labels and teacher files are empty; only its index is not.

    The training split has the share of the scenes that nuScenes' has; file names are as long as nuScenes' own.
    """
    names = [f"n015-2018-07-24-11-22-45+0800__{row:045d}" for row in range(keyframes)]
    scene = (np.arange(keyframes) * scenes // keyframes).astype(np.int32)
    poses, per_camera = np.tile(np.eye(4), (keyframes, 1, 1)), (keyframes, len(NUSCENES_CAMERAS))
    labels = LABEL_SETS["surroundocc"]
    # Images and labels share a folder, and so do all cameras: what is looked for is names.
    camera_file = np.array([[f"samples/{camera}/{name}.npy" for camera in NUSCENES_CAMERAS] for name in names], "S")
    arrays = {
        "sample_token": np.array([make_token("sample", row) for row in range(keyframes)], "S"),
        "scene": scene,
        "frame_index": (np.arange(keyframes) - np.searchsorted(scene, scene)).astype(np.int32),
        "timestamp_us": np.arange(keyframes) * 500_000,
        "camera_file": camera_file,
        "camera_size": np.tile(np.array([1600, 900], np.int32), (*per_camera, 1)),
        "pixel_from_cam": np.tile(_INTRINSICS, (*per_camera, 1, 1)),
        "cam_from_lidar": np.tile(np.eye(4, dtype=np.float32), (*per_camera, 1, 1)),
        "cam_from_ego": np.tile(np.eye(4, dtype=np.float32), (*per_camera, 1, 1)),
        "lidar_file": np.array([f"samples/LIDAR_TOP/{name}" for name in names], "S"),
        "global_from_lidar": poses,
        "global_from_ego": poses,
        "scene_token": np.array([make_token("scene", row) for row in range(scenes)], "S"),
        "scene_name": np.array([f"scene-{row:04d}" for row in range(scenes)], "S"),
    }
    train = [f"scene-{row:04d}" for row in range(scenes * TRAIN_SCENES // SCENES)]
    facts = {"cameras": list(NUSCENES_CAMERAS), "official_splits": {"train": train}}
    (root / VERSION).mkdir(parents=True)
    for table in TABLES:
        (root / VERSION / f"{table}.json").touch()
    # As `load_index` leaves it after it has read the tables, which here have nothing in them.
    fingerprint = tables_fingerprint(root, VERSION, DataConfig().lidar_channel)
    write_cache([root / "occjax_index"], f"{VERSION}.npz", arrays, facts, fingerprint)

    images = labels.path(root / labels.folder, lidar_file="", scene_name="", token="").parent
    for folder in (images, root / "samples/LIDAR_TOP", root / "teacher"):
        folder.mkdir(parents=True)
    for camera in NUSCENES_CAMERAS:
        (root / "samples" / camera).symlink_to(images.absolute())
    for name, token in zip(names, arrays["sample_token"].tolist(), strict=True):
        for path in (images / f"{name}.npy", root / "samples/LIDAR_TOP" / name, root / f"teacher/{token.decode()}.npz"):
            os.mknod(path)
    write_manifest(
        root / "teacher",
        grid=SURROUNDOCC_GRID,
        form="compact",
        samples=keyframes,
        max_active_voxels=60_000,
        contents={"voxels": True, "bev": False, "validity": False},
        source="",
        matched_by="token",
        value_kind={},
        details={},
    )


def hollow_config(root: Path) -> Config:
    """A configuration that trains on images, sweeps, labels and teacher of a hollow root, without workers."""
    config = Config()
    config.data.root, config.data.teacher_dir = str(root), str(root / "teacher")
    config.data.batch_size, config.data.workers = 16, 0
    config.loss.distill.voxel_kl = 1.0
    return config


def start_s(config: Config) -> float:
    """Wall time until the training loader stands."""
    started = time.perf_counter()
    make_train_loader(config, load_index(config.data), training_parts(config)).close()
    return time.perf_counter() - started


def main(arguments: list[str] | None = None) -> None:
    """Prints the time to start at both sizes and their ratio."""
    parser = Parser("python -m occjax.benchmark.loader_start", __doc__)
    parser.add_argument("--keyframes", type=positive, default=KEYFRAMES, help="of the larger root")
    parser.add_argument("--repeats", type=positive, default=5, help="the median counts")
    args = parser.parse_args(arguments)
    say(f"machine: {machine()}")
    seconds = []
    for keyframes in (max(args.keyframes // _SHRINK, 20), args.keyframes):
        with tempfile.TemporaryDirectory(prefix="occjax-hollow-") as folder:
            root = Path(folder) / "nuscenes"
            write_hollow_root(root, keyframes, scenes=max(keyframes * SCENES // KEYFRAMES, 2))
            config = hollow_config(root)
            seconds.append(statistics.median(start_s(config) for _ in range(args.repeats)))
        say(f"{keyframes:7d} keyframes: {seconds[-1]:.2f} s to start")
    say(f"ratio: {seconds[1] / seconds[0]:.1f} times as long for {_SHRINK} times the keyframes")


if __name__ == "__main__":
    main()
