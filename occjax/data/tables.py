"""nuScenes tables, read through nuscenes-devkit, become plain arrays with one row per keyframe."""

import warnings
from pathlib import Path

import numpy as np

from occjax.config import NUSCENES_CAMERAS
from occjax.data.table_checks import read_checked
from occjax.errors import DataError
from occjax.geometry import invert_rigid, transform_from_pose


def read_tables(root: Path, version: str, lidar_channel: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays of every keyframe of a nuScenes version, ordered by (scene token, time).

    S keyframes, N camera channels of the version (nuScenes' own first, in the usual order), C scenes.

    Returns:
      arrays: see `occjax.data.index.SplitIndex` for names, shapes and frames; plus `scene_token` [C], `scene_name` [C].
      facts: `cameras`: channel names in column order; `official_splits`: split name to names of the scenes present.

    Raises:
      DataError: a value of the tables breaks a rule, or a keyframe has no record of `lidar_channel`.
    """
    nusc, official = _open(root, version, lidar_channel)
    scenes = sorted(nusc.scene, key=lambda scene: scene["token"])
    scene_row = {scene["token"]: row for row, scene in enumerate(scenes)}
    # Teacher dumps number samples in this order: it is a contract with the files that exist.
    samples = sorted(nusc.sample, key=lambda s: (s["scene_token"], s["timestamp"]))
    if not samples:
        raise DataError(f"{root / version}/sample.json lists no keyframe; copy the tables again")

    channels = {sensor["channel"] for sensor in nusc.sensor if sensor["modality"] == "camera"}
    cameras = [c for c in NUSCENES_CAMERAS if c in channels] + sorted(channels.difference(NUSCENES_CAMERAS))
    shape = (len(samples), len(cameras))
    camera_file = np.full(shape, "", object)
    camera_size = np.zeros((*shape, 2), np.int32)
    # Identities where a keyframe lacks a channel: inverting them must not fail.
    pixel_from_cam = np.tile(np.eye(3), (*shape, 1, 1))
    global_from_cam = np.tile(np.eye(4), (*shape, 1, 1))
    global_from_lidar = np.empty((len(samples), 4, 4))
    global_from_ego = np.empty((len(samples), 4, 4))
    lidar_file = []
    calibrations: dict[str, np.ndarray] = {}

    def sensor_pose(record: dict) -> tuple[np.ndarray, np.ndarray]:
        """global_from_ego at the record's own timestamp, and global_from_sensor."""
        token = record["calibrated_sensor_token"]
        if token not in calibrations:
            calibration = nusc.get("calibrated_sensor", token)
            calibrations[token] = transform_from_pose(calibration["rotation"], calibration["translation"])
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        global_from_ego_then = transform_from_pose(pose["rotation"], pose["translation"])
        return global_from_ego_then, global_from_ego_then @ calibrations[token]

    for row, sample in enumerate(samples):
        # Keyframes are timed by this sensor, and both label sets lie at its timestamp.
        if lidar_channel not in sample["data"]:
            others = ", ".join(sorted(s["channel"] for s in nusc.sensor if s["modality"] == "lidar"))
            remedy = (
                f"LiDARs of these tables: {others}; choose one with --config.data.lidar_channel"
                if others
                else "these tables have no LiDAR: give each keyframe such a record, with the pose that its grid lies "
                "in (no sweep needs to be there with --config.loss.depth=0)"
            )
            raise DataError(
                f"keyframe {sample['token']} has no {lidar_channel} record in sample_data.json, whose pose it needs; "
                f"{remedy}"
            )
        lidar = nusc.get("sample_data", sample["data"][lidar_channel])
        lidar_file.append(lidar["filename"])
        global_from_ego[row], global_from_lidar[row] = sensor_pose(lidar)
        for column, channel in enumerate(cameras):
            if channel not in sample["data"]:
                continue
            record = nusc.get("sample_data", sample["data"][channel])
            camera_file[row, column] = record["filename"]
            camera_size[row, column] = record["width"], record["height"]
            calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
            pixel_from_cam[row, column] = calibration["camera_intrinsic"]
            global_from_cam[row, column] = sensor_pose(record)[1]

    # Global translations are kilometres: compose in float64, only then round.
    cam_from_global = invert_rigid(global_from_cam)
    absent = camera_file == ""
    cam_from_lidar = cam_from_global @ global_from_lidar[:, None]
    cam_from_ego = cam_from_global @ global_from_ego[:, None]
    cam_from_lidar[absent] = cam_from_ego[absent] = np.eye(4)

    scene = np.array([scene_row[s["scene_token"]] for s in samples], np.int32)
    first_of_scene = np.searchsorted(scene, scene)
    arrays = {
        "sample_token": _text([s["token"] for s in samples]),
        "scene": scene,
        "frame_index": (np.arange(len(samples)) - first_of_scene).astype(np.int32),
        "timestamp_us": np.array([s["timestamp"] for s in samples], np.int64),
        "camera_file": _text(camera_file.ravel().tolist()).reshape(shape),
        "camera_size": camera_size,
        "pixel_from_cam": pixel_from_cam.astype(np.float32),
        "cam_from_lidar": cam_from_lidar.astype(np.float32),
        "cam_from_ego": cam_from_ego.astype(np.float32),
        "lidar_file": _text(lidar_file),
        "global_from_lidar": global_from_lidar,
        "global_from_ego": global_from_ego,
        "scene_token": _text([s["token"] for s in scenes]),
        "scene_name": _text([s["name"] for s in scenes]),
    }
    present = {s["name"] for s in scenes}
    official = {name: [s for s in names if s in present] for name, names in official.items()}
    return arrays, {"cameras": cameras, "official_splits": {name: s for name, s in official.items() if s}}


def _open(root: Path, version: str, lidar_channel: str):
    """The devkit's view of the tables that are needed, and its lists of scenes by split."""
    tables = read_checked(root, version, lidar_channel)
    with warnings.catch_warnings():
        # The devkit's own dependencies deprecate; nothing that a user of ours could change.
        warnings.simplefilter("ignore")
        from nuscenes.nuscenes import NuScenes
        from nuscenes.utils.splits import create_splits_scenes

    class NeededTables(NuScenes):
        # Its own constructor opens every map and reads all of 13 tables, a million annotations among them.
        def __init__(self):
            self.version, self.dataroot, self.verbose = version, str(root), False
            self.table_names = list(tables)
            nothing = {"sample_annotation": [], "log": [], "map": [{"log_tokens": []}]}
            for name, rows in {**tables, **nothing}.items():
                setattr(self, name, rows)
            self.__make_reverse_index__(False)

    return NeededTables(), create_splits_scenes()


def _text(strings: list[str]) -> np.ndarray:
    """Bytes array [n]: a quarter of numpy's unicode, and readable without pickle."""
    return np.array([s.encode() for s in strings], np.bytes_)
