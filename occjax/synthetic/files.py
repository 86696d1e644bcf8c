"""Writes the city's files so that the same content always gives the same bytes."""

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY = 92


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """A compressed .npz that numpy reads; fast compression and fixed time stamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getbuffer(), compresslevel=1)


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    """RGB [H, W, 3] or gray [H, W] as the kind of file that the suffix names.

    Raises:
      OSError: the encoder refuses the image.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    if not done:
        raise OSError(f"{path}: OpenCV could not encode an image of shape {image.shape}")
    path.write_bytes(data.tobytes())


def write_jpeg(path: Path, image: np.ndarray) -> None:
    write_image(path, image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def write_png(path: Path, image: np.ndarray) -> None:
    write_image(path, image, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=0) + "\n")
