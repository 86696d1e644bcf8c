"""Folder of frames, `<camera>/<time>.jpg`: which images of the cameras belong together."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from occjax.predict.images import ImageError

_SUFFIXES = {".jpg", ".jpeg", ".png"}


def frames_of_folder(folder: str | Path, cameras: tuple[str, ...]) -> Iterator[dict[str, Path]]:
    """Images of each frame by camera, in order of time.

    The camera with most images sets the times, and comes first in every frame; of each other one the nearest image
    belongs to the frame, if it is not farther than half of the usual time between frames. Times are numbers, of any
    unit that all of them share.

    Args:
      folder: with a folder for each camera, of images that are named by their time.
      cameras: of the rig.

    Raises:
      ImageError: no image of these cameras, or names that are no times.
    """
    folder = Path(folder)
    found = {camera: _times(folder / camera) for camera in cameras}
    found = {camera: images for camera, images in found.items() if images}
    if not found:
        there = ", ".join(sorted(path.name for path in folder.glob("*/"))) or "no folder of a camera"
        raise ImageError(
            f"{folder} holds no images <camera>/<time>.jpg of the rig's cameras {', '.join(cameras)}; it holds "
            f"{there}: name the folder above the cameras'"
        )
    reference = max(found, key=lambda camera: len(found[camera]))
    times = np.array(sorted(found[reference]))
    # A frame alone takes whatever the others have.
    limit = np.median(np.diff(times)) / 2 if len(times) > 1 else np.inf
    # First in every frame: no two frames share its image, which names them.
    nearest = {camera: np.array(sorted(found[camera])) for camera in dict.fromkeys((reference, *found))}
    for time in times:
        frame = {}
        for camera, candidates in nearest.items():
            candidate = candidates[np.abs(candidates - time).argmin()]
            if abs(candidate - time) <= limit:
                frame[camera] = found[camera][candidate]
        yield frame


def frames_in_words(folder: str | Path, frames: list[dict[str, Path]], cameras: tuple[str, ...]) -> str:
    """What a folder's frames are of, and what they lack: cameras, images of one time, a calibration."""
    parts = [f"{len(frames)} frames of {', '.join(camera for camera in cameras if any(camera in f for f in frames))}"]
    lacking = {camera: sum(camera not in frame for frame in frames) for camera in cameras}
    parts += [f"{camera} has no image in {count} of them" for camera, count in lacking.items() if count]
    times = [[float(path.stem) for path in frame.values()] for frame in frames]
    apart = max(max(found) - min(found) for found in times)
    if apart:
        parts.append(f"images of one frame are up to {apart:.6g} apart, in the unit of their names")
    strangers = sorted(path.name for path in Path(folder).glob("[!.]*/") if path.name not in cameras)
    if strangers:
        parts.append(f"the calibration knows no {', '.join(strangers)}")
    return "; ".join(parts)


def _times(folder: Path) -> dict[float, Path]:
    """Images of one camera by their time; empty where it has none."""
    found: dict[float, Path] = {}
    # Not hidden ones, which systems leave beside files.
    for path in sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in _SUFFIXES):
        try:
            time = float(path.stem)
        except ValueError:
            time = math.nan
        if not math.isfinite(time):
            raise ImageError(
                f"images in {folder} must be named by their time, a number, as 1532402927.647.jpg; found {path.name}"
            )
        if time in found:
            raise ImageError(f"{folder} has two images of one time, {found[time].name} and {path.name}; remove one")
        found[time] = path
    return found
