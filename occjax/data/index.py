"""Index of all keyframes, one compact, cached table: names, calibration and poses, ordered as teacher dumps are."""

import dataclasses
import difflib
import json
import logging
from functools import cached_property
from pathlib import Path

import numpy as np

from occjax.config import DataConfig
from occjax.data.table_checks import TABLES
from occjax.errors import DataError
from occjax.npz import read_npz
from occjax.storage import writing

# Raise it when an array changes its meaning: a cache of another version is built again.
SCHEMA_VERSION = 2
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitIndex:
    """The keyframes of whole scenes, ordered by (scene token, frame index): row i is `Batch.sample_index` i.

    S keyframes, N camera channels, C scenes. Texts are bytes. A channel that a keyframe lacks has an empty file name
    and identity matrices.

    Attributes:
      name: of the split.
      root: nuScenes root; file names are relative to it.
      cameras: channel of each camera column.
      sample_token: bytes [S].
      scene: int32 [S] row in `scene_token` and `scene_name`.
      frame_index: int32 [S] position in the scene, by time.
      timestamp_us: int64 [S] of the keyframe, microseconds.
      camera_file: bytes [S, N].
      camera_size: int32 [S, N, 2] recorded width and height, pixels.
      pixel_from_cam: float32 [S, N, 3, 3] intrinsics of the recorded image.
      cam_from_lidar: float32 [S, N, 4, 4], the LiDAR at keyframe time to the camera at its own timestamp.
      cam_from_ego: float32 [S, N, 4, 4], ego at the LiDAR's timestamp (Occ3D's frame) to the camera at its own.
      lidar_file: bytes [S].
      global_from_lidar: float64 [S, 4, 4] at its timestamp.
      global_from_ego: float64 [S, 4, 4] at its timestamp.
      scene_token: bytes [C].
      scene_name: bytes [C].
    """

    name: str
    root: Path
    cameras: tuple[str, ...]
    sample_token: np.ndarray
    scene: np.ndarray
    frame_index: np.ndarray
    timestamp_us: np.ndarray
    camera_file: np.ndarray
    camera_size: np.ndarray
    pixel_from_cam: np.ndarray
    cam_from_lidar: np.ndarray
    cam_from_ego: np.ndarray
    lidar_file: np.ndarray
    global_from_lidar: np.ndarray
    global_from_ego: np.ndarray
    scene_token: np.ndarray
    scene_name: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_token)

    @cached_property
    def tokens(self) -> list[str]:
        """Sample tokens in order."""
        return [token.decode() for token in self.sample_token]

    @cached_property
    def scene_names(self) -> list[str]:
        """Scene name of every sample."""
        names = [name.decode() for name in self.scene_name]
        return [names[row] for row in self.scene]

    def scene_rows(self, row: int) -> slice:
        """Rows of all keyframes of the scene that `row` belongs to, in time order (RayIoU's ray origins)."""
        # A scene's rows lie together, ordered by the scene's number.
        first, last = np.searchsorted(self.scene, [self.scene[row], self.scene[row] + 1])
        return slice(int(first), int(last))

    def camera_columns(self, cameras: tuple[str, ...]) -> list[int]:
        """Column of each named channel; raises DataError with all those that these tables lack."""
        if unknown := [camera for camera in cameras if camera not in self.cameras]:
            close = {c: difflib.get_close_matches(c, self.cameras, n=1, cutoff=0.7) for c in unknown}
            hints = "; ".join(f"did you mean {found[0]} by {c}?" for c, found in close.items() if found)
            raise DataError(
                f"data.cameras names {', '.join(unknown)}, which the tables in {self.root} do not have; they have "
                f"{', '.join(self.cameras) or 'no camera'}{'; ' if hints else ''}{hints}"
            )
        return [self.cameras.index(camera) for camera in cameras]

    def camera_aspects(self, row: int, cameras: tuple[str, ...]) -> list[float | None]:
        """Width by height of each named camera's image as it was recorded; None where the keyframe has none."""
        sizes = [self.camera_size[row, column] for column in self.camera_columns(cameras)]
        return [float(width / height) if height > 0 else None for width, height in sizes]

    def take(self, name: str, rows: np.ndarray) -> "SplitIndex":
        """The given keyframes under a new name; `rows` [S'] must be increasing and hold whole scenes."""
        arrays = {key: getattr(self, key)[rows] for key in _ROW_ARRAYS}
        return dataclasses.replace(self, name=name, **arrays)


_SCENE_ARRAYS = ("scene_token", "scene_name")
_ROW_ARRAYS = tuple(
    f.name for f in dataclasses.fields(SplitIndex) if f.name not in ("name", "root", "cameras", *_SCENE_ARRAYS)
)
# Kind of dtype and shape of every array; letters as in SplitIndex.
_ARRAY_KINDS = {
    "sample_token": ("S", "S"),
    "scene": ("i", "S"),
    "frame_index": ("i", "S"),
    "timestamp_us": ("i", "S"),
    "camera_file": ("S", "S", "N"),
    "camera_size": ("i", "S", "N", 2),
    "pixel_from_cam": ("f", "S", "N", 3, 3),
    "cam_from_lidar": ("f", "S", "N", 4, 4),
    "cam_from_ego": ("f", "S", "N", 4, 4),
    "lidar_file": ("S", "S"),
    "global_from_lidar": ("f", "S", 4, 4),
    "global_from_ego": ("f", "S", 4, 4),
    "scene_token": ("S", "C"),
    "scene_name": ("S", "C"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """All keyframes of a nuScenes version and the scenes of each split."""

    everything: SplitIndex
    splits: dict[str, list[str]]
    splits_origin: str

    def split(self, name: str) -> SplitIndex:
        """The keyframes of one split.

        Raises:
          DataError: no such split, or none of its scenes is in these tables.
        """
        known = ", ".join(f"{s} ({len(scenes)} scenes)" for s, scenes in self.splits.items()) or "none"
        if name not in self.splits:
            raise DataError(
                f"split {name!r} has no scene here; {self.splits_origin} and the tables have in common: {known}; "
                "set data.train_split and data.val_split, or name your own scenes in data.splits_file"
            )
        wanted = {scene.encode() for scene in self.splits[name]}
        rows_of_scenes = [row for row, scene in enumerate(self.everything.scene_name) if scene in wanted]
        rows = np.flatnonzero(np.isin(self.everything.scene, rows_of_scenes))
        if not len(rows):
            raise DataError(f"split {name!r} of {self.splits_origin} has no keyframe in the tables; splits: {known}")
        return self.everything.take(name, rows)


def load_index(data: DataConfig, *, fallback_dir: Path | None = None) -> Index:
    """The index of `data.root`, from its cache file, or built from the tables and cached.

    The cache is `<data.index_dir or root/occjax_index>/<version>.npz`; where that folder cannot be written,
    `fallback_dir` (a workdir) holds it, and without one it is built in memory every time.

    Raises:
      DataError: root, version folder, tables or splits are missing or wrong.
    """
    root = Path(data.root)
    fingerprint = tables_fingerprint(root, data.version, data.lidar_channel)
    folders = [Path(data.index_dir)] if data.index_dir else [root / "occjax_index"]
    folders += [Path(fallback_dir)] if fallback_dir else []
    cached = (_read_cache(folder / f"{data.version}.npz", fingerprint) for folder in folders)
    loaded = next(filter(None, cached), None)
    if loaded is None:
        # Here, because the devkit takes seconds to import and is not needed where a cache is.
        from occjax.data.tables import read_tables

        _log.info("building the index of %s from its tables (once)", root / data.version)
        loaded = read_tables(root, data.version, data.lidar_channel)
        write_cache(folders, f"{data.version}.npz", *loaded, fingerprint)
    arrays, facts = loaded
    everything = SplitIndex(name="all", root=root, cameras=tuple(facts["cameras"]), **arrays)
    splits, origin = _splits(data, everything, facts["official_splits"])
    return Index(everything, splits, origin)


def tables_fingerprint(root: Path, version: str, lidar_channel: str) -> str:
    """Sizes and times of the tables and the keyframes' LiDAR, as JSON; raises DataError when a table is missing."""
    if not root.is_dir():
        raise DataError(
            f"nuScenes root {root} does not exist; set data.root to the folder that holds samples/ and {version}/, "
            "or start with configs/quickstart.py, which needs no data"
        )
    folder = root / version
    if not folder.is_dir():
        found = sorted(p.name for p in root.glob("v1.0*") if p.is_dir())
        raise DataError(
            f"nuScenes version {version} is not in {root}; found {', '.join(found) or 'no v1.0-* folder'}; "
            "set data.version, or extract the metadata archive of that version there"
        )
    absent = [f"{t}.json" for t in TABLES if not (folder / f"{t}.json").is_file()]
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)}; extract the metadata archive of {version} again")
    # Sizes and times, not a checksum: the tables are hundreds of megabytes, and this runs at every start.
    stats = {t: (folder / f"{t}.json").stat() for t in TABLES}
    made_by = {"schema": SCHEMA_VERSION, "lidar": lidar_channel}
    return json.dumps({**made_by, **{t: [s.st_size, s.st_mtime_ns] for t, s in stats.items()}})


def _read_cache(path: Path, fingerprint: str) -> tuple[dict[str, np.ndarray], dict] | None:
    if not path.is_file():
        return None
    try:
        facts = json.loads(str(read_npz(path, ["facts"])["facts"]))
        if facts["fingerprint"] == fingerprint:
            arrays = read_npz(path, (*_ROW_ARRAYS, *_SCENE_ARRAYS))
            _require_whole(arrays, facts)
            return arrays, facts
        _log.warning("index %s belongs to other tables or an older occjax: building it again", path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("index %s cannot be read (%s): building it again", path, error)
    return None


def _require_whole(arrays: dict[str, np.ndarray], facts: dict) -> None:
    """Raises ValueError, KeyError or TypeError where arrays and facts are not of one index."""
    counts: dict[object, int] = {"S": len(arrays["sample_token"]), "N": len(facts["cameras"])}
    counts["C"] = len(arrays["scene_token"])
    for name, (kind, *shape) in _ARRAY_KINDS.items():
        wanted = tuple(counts.get(length, length) for length in shape)
        if arrays[name].shape != wanted or arrays[name].dtype.kind != kind:
            raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
    if not all(isinstance(name, str) for name in facts["cameras"]) or not isinstance(facts["official_splits"], dict):
        raise ValueError("its facts are of another kind")


def write_cache(folders: list[Path], name: str, arrays: dict, facts: dict, fingerprint: str) -> None:
    """Writes an index to the first of `folders` that can be written; a warning where none can.

    Args:
      folders: by preference.
      name: of the file.
      arrays, facts: what `load_index` reads back.
      fingerprint: of the tables that it was made from, `tables_fingerprint`.
    """
    # The first that can be written: data sets are often mounted read-only.
    for folder in folders:
        try:
            with writing(folder / name) as scratch, scratch.open("wb") as file:
                np.savez(file, facts=np.array(json.dumps({**facts, "fingerprint": fingerprint})), **arrays)
            return
        except OSError as error:
            _log.warning("index cannot be written to %s (%s)", folder, error.strerror)
    _log.warning("the index is not cached and will be built at every start; set data.index_dir to a writable folder")


def _splits(data: DataConfig, everything: SplitIndex, official: dict) -> tuple[dict[str, list[str]], str]:
    # A root of one's own, as the synthetic one, brings its splits along.
    path = Path(data.splits_file) if data.splits_file else everything.root / "splits.json"
    if not path.is_file():
        if data.splits_file:
            raise DataError(f'data.splits_file {path} does not exist; it is JSON {{"train": [scene names], ...}}')
        return official, "the official splits"
    try:
        splits = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"splits file {path} is no JSON: {error}") from error
    well_formed = isinstance(splits, dict) and all(
        isinstance(scenes, list) and all(isinstance(s, str) for s in scenes) for scenes in splits.values()
    )
    if not well_formed:
        raise DataError(f'splits file {path} must be JSON {{"train": [scene names], "val": [scene names]}}')
    present = {name.decode() for name in everything.scene_name}
    unknown = sorted({s for scenes in splits.values() for s in scenes} - present)
    if unknown:
        raise DataError(
            f"splits file {path} names {len(unknown)} scenes that the tables lack, first {', '.join(unknown[:5])}; "
            f"the tables have {len(present)}, first {', '.join(sorted(present)[:5])}"
        )
    return splits, str(path)
