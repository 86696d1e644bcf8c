"""Frame of nuScenes: the images of a sample and the rig that took them, each camera at its own time."""

from pathlib import Path

from occjax.config import NUSCENES_CAMERAS, DataConfig
from occjax.data.index import load_index
from occjax.errors import DataError
from occjax.predict.rig import Rig


def nuscenes_frame(
    root: str | Path,
    token: str,
    *,
    version: str | None = None,
    frame: str = "lidar",
    cameras: tuple[str, ...] = NUSCENES_CAMERAS,
) -> tuple[dict[str, Path], Rig]:
    """Image files by camera, and the rig; those of the cameras that the sample has.

    Args:
      root: folder of nuScenes, or of a generated city.
      token: of the sample.
      version: of the tables; None = the only one that is there.
      frame: of the network's grid, "lidar" or "ego".
      cameras: in this order.

    Raises:
      DataError: no such root, version, sample or cameras.
    """
    version = version or _only_version(Path(root))
    index = load_index(DataConfig(root=str(root), version=version)).everything
    if token not in index.tokens:
        raise DataError(f"{root} has no sample {token!r} in {version}; its first is {index.tokens[0]}")
    row = index.tokens.index(token)
    columns = {name: index.cameras.index(name) for name in cameras if name in index.cameras}
    present = {name: column for name, column in columns.items() if index.camera_file[row, column]}
    if not present:
        raise DataError(f"sample {token} has no image of {', '.join(cameras)}; its tables have {index.cameras}")
    files = {name: Path(root) / index.camera_file[row, column].decode() for name, column in present.items()}
    chosen = list(present.values())
    poses = index.cam_from_lidar if frame == "lidar" else index.cam_from_ego
    rig = Rig(
        tuple(present), index.pixel_from_cam[row, chosen], poses[row, chosen], index.camera_size[row, chosen], frame
    )
    return files, rig


def _only_version(root: Path) -> str:
    found = sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())
    if len(found) != 1:
        there = " and ".join(found) or "no folder v1.0-*"
        raise DataError(f"{root} has {there}; say which tables to read: version=...")
    return found[0]
