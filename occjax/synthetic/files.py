"""Files of the city, written so that the same content always gives the same bytes."""

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np

# As every number here, part of the bytes: whoever changes it raises generate.FORMAT.
_ENCODING = {".jpg": (cv2.IMWRITE_JPEG_QUALITY, 92), ".png": (cv2.IMWRITE_PNG_COMPRESSION, 1)}


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays of any shape [...] as a compressed .npz that numpy reads, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            # numpy.savez stamps the time of day into the archive; 1980 is where zip's calendar begins.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            # Level 6, the default, takes more than twice the time and saves a tenth of a teacher file.
            archive.writestr(entry, buffer.getbuffer(), zipfile.ZIP_DEFLATED, compresslevel=1)


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes an array of any shape [...] as .npy, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 RGB [H, W, 3] or gray [H, W] as .jpg or .png, as the suffix says, and the folders above it.

    Raises:
      OSError: the encoder refuses the image.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV thinks in BGR.
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, _ENCODING[path.suffix])
    if not done:
        raise OSError(f"{path}: OpenCV could not encode an image of shape {image.shape}")
    path.write_bytes(data.tobytes())


def write_json(path: Path, content: object) -> None:
    """Writes JSON, and the folders above it; a line per field, so that tables can be compared and searched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=0) + "\n")
