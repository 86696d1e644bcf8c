"""Bytes of an image file, looked over before they are decoded: the size that they declare, and whether all are there.

Decoders are lenient: what is missing of a JPEG becomes grey, and its size is believed, however large.
"""

import bisect
import os
import tempfile
import threading
import zlib

import cv2
import numpy as np

from occjax.errors import DataError

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_END, _SCAN = 0xD9, 0xDA
_PROGRESSIVE = b"\xff\xc2"  # within a scan 0xFF is followed by 0 or by the number of a restart
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Entropy-coded data has no long run of zeros: a copy that broke off, or a disk that was full, leaves one.
_HOLE = bytes(512)
_ONE_AT_A_TIME = threading.Lock()


def declared_size(data: bytes) -> tuple[int, int]:
    """Width and height that a whole JPEG or PNG declares, pixels.

    Raises:
      DataError: the file is empty, of another format, cut off, or has a hole.
    """
    if not data:
        raise DataError("file is empty")
    if data.startswith(_JPEG_START):
        return _jpeg_size(data)
    if data.startswith(_PNG_START):
        return _png_size(data)
    raise DataError(f"file is neither JPEG nor PNG; it begins with {data[:8].hex(' ')}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size, at, markers = None, len(_JPEG_START), _jpeg_markers(data)
    # From marker to marker: what lies behind the end, padding or a camera's own data, is nobody's business.
    while (number := bisect.bisect_left(markers, at)) < len(markers):
        kind, start = data[markers[number] + 1], markers[number] + 2
        if kind == _END:
            if size is None:
                raise DataError("JPEG is damaged: it says nowhere how large the image is")
            return size
        length = int.from_bytes(data[start : start + 2], "big")
        at = start + max(length, 2)
        if kind in _FRAMES:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (start + 3, start + 5))
            size = width, height
        if kind == _SCAN:
            following = bisect.bisect_left(markers, at)
            hole = data.find(_HOLE, at, markers[following] if following < len(markers) else len(data))
            if hole >= 0:
                raise DataError(f"JPEG has a hole: nothing but zeros from byte {hole} of {len(data)} on")
    raise DataError("JPEG is truncated: it has no end marker")


def _jpeg_markers(data: bytes) -> list[int]:
    """Where markers begin, and what looks like one within a segment.

    All of them but restarts, which lie within a scan; 0xFF00 is a byte of data, and a marker may follow more than one
    0xFF. By numpy, 0.05 ms for an image of nuScenes; a regular expression takes 1.7, a third of the decoding.
    """
    values = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(values[:-1] == 0xFF)
    kinds = values[places + 1]
    return places[(kinds != 0) & (kinds != 0xFF) & ((kinds < 0xD0) | (kinds > 0xD7))].tolist()


def _png_size(data: bytes) -> tuple[int, int]:
    size, at = None, len(_PNG_START)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = memoryview(data)[at + 4 : at + 8 + length]
        if zlib.crc32(content) != int.from_bytes(data[at + 8 + length : at + 12 + length], "big"):
            raise DataError(f"PNG is damaged: the checksum at byte {at} does not fit")
        if kind == b"IHDR":
            size = int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big")
        if kind == b"IEND" and size is not None:
            return size
        at += 12 + length
    raise DataError("PNG is truncated: it has no end")


def require_complete(data: bytes, image: np.ndarray) -> None:
    """Raises DataError where libjpeg filled up what a JPEG with an end marker lacks; `image` is what it decoded.

    Missing blocks are grey, 128 exactly, and the last block is among them; those of a progressive file are coarse. Only
    such images are decoded once more, for OpenCV passes libjpeg's warnings on to nobody but the terminal.
    """
    may_lack = (image[-1, -1] == 128).all() or _PROGRESSIVE in data
    if data.startswith(_JPEG_START) and may_lack and b"premature end" in _printed(data):
        raise DataError("JPEG is damaged: data is missing before its end marker, and the image is grey or coarse there")


def _printed(data: bytes) -> bytes:
    """What decoding prints to the standard error stream, the only place where libjpeg says that something is wrong."""
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as printed:
        try:
            stderr = os.dup(2)
        except OSError:  # a daemon may have none
            return b""
        try:
            os.dup2(printed.fileno(), 2)
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        printed.seek(0)
        return printed.read()
