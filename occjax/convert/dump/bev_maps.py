"""BEV maps as the dump script has them: semantic maps, maps of scores, their turns and flips, and pictures."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from occjax.classes import CLASS_COLORS
from occjax.convert.dump.surface import DEFAULT_PRIORITY_IDS
from occjax.pooling import highest_occupied
from occjax.storage import writing
from occjax.targets.column_rule import PROBABILITY_FLOOR


def bev_semantics(
    labels: np.ndarray,
    *,
    mode: Literal["overwrite", "priority"] = "overwrite",
    scan_direction: Literal["low2high", "high2low"] = "low2high",
    priority_ids: tuple[int, ...] = DEFAULT_PRIORITY_IDS,
) -> np.ndarray:
    """Class of each column.

    Args:
      labels: uint8 [X, Y, Z].
      mode: "overwrite": the last occupied voxel met in the scan; "priority": a column that holds one of
        `priority_ids` gets the one that comes first in that list, any other column is as with "overwrite".
      scan_direction: "low2high" ends at the highest voxel, "high2low" at the lowest.
      priority_ids: most important first.

    Returns:
      uint8 [X, Y]; free where every voxel is free (or 255).
    """
    bev, _ = highest_occupied(labels if scan_direction == "low2high" else labels[..., ::-1])
    if mode == "priority":
        # The least important first, so that the most important one has the last word.
        for class_id in reversed(priority_ids):
            bev = np.where((labels == class_id).any(2), np.uint8(class_id), bev)
    return bev


def bev_scores(bev: Float[np.ndarray, "x y k"], *, kind: str, occupied_threshold: float) -> np.ndarray:
    """float16 scores [X, Y, K] of a map of probabilities, free last.

    Args:
      bev: probabilities.
      kind: "prob", or "logits": their logarithms, floored at 1e-6, whose softmax gives them back.
      occupied_threshold: columns whose occupied probability is less become free.
    """
    free = np.eye(bev.shape[-1], dtype=bev.dtype)[-1]
    bev = np.where((1 - bev[..., -1] < occupied_threshold)[..., None], free, bev)
    return (bev if kind == "prob" else np.log(np.maximum(bev, PROBABILITY_FLOOR))).astype(np.float16)


def turn(bev: np.ndarray, *, rotate_k: int = 0, flip_x: bool = False, flip_y: bool = False) -> np.ndarray:
    """A map [X, Y, ...] turned by `rotate_k` quarter turns (x towards y), then flipped along x and along y."""
    bev = np.rot90(bev, rotate_k, axes=(0, 1))
    bev = bev[::-1] if flip_x else bev
    return bev[:, ::-1] if flip_y else bev


def turn_back(bev: np.ndarray, *, rotate_k: int = 0, flip_x: bool = False, flip_y: bool = False) -> np.ndarray:
    """Undoes `turn` of a map [X, Y, ...]."""
    bev = bev[:, ::-1] if flip_y else bev
    bev = bev[::-1] if flip_x else bev
    return np.rot90(bev, -rotate_k, axes=(0, 1))


def colored(bev: np.ndarray, scale: int) -> np.ndarray:
    """uint8 RGB [X*scale, Y*scale, 3] of a map in the usual colours; 255 is grey."""
    table = np.full((256, 3), 128, np.uint8)
    table[: len(CLASS_COLORS)] = CLASS_COLORS
    return table[bev].repeat(scale, 0).repeat(scale, 1)


def write_png(path: Path, rgb: UInt8[np.ndarray, "x y 3"]) -> None:
    """Writes a picture, whole or not at all; raises OSError."""
    # OpenCV writes BGR.
    done, data = cv2.imencode(".png", rgb[..., ::-1])
    if not done:
        raise OSError(f"cannot encode {path}")
    with writing(path) as scratch:
        scratch.write_bytes(data.tobytes())


def write_npz(path: Path, *, compress: bool, **arrays: Shaped[np.ndarray, "..."]) -> None:
    """Writes arrays by name, whole or not at all; raises OSError."""
    with writing(path) as scratch, scratch.open("wb") as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)


def write_npy(path: Path, array: Shaped[np.ndarray, "..."]) -> None:
    """Writes an array, whole or not at all; raises OSError."""
    with writing(path) as scratch, scratch.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))
