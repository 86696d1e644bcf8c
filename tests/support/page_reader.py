"""Reads the page's frames back, by other means than the page does."""

import base64
import json
import re
import zlib

import numpy as np

from occjax.classes import FREE


def scene_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', page, re.S)[1])


def unpacked(frame: dict, scene: dict):
    """Another reader of the format than the page's own: (classes, levels) by panel, and which voxels count."""
    data = zlib.decompress(base64.b64decode(frame["voxels"]))
    shape, at, volumes = tuple(scene["grid"]["shape"]), 0, {}
    x, y, z = shape
    for name, has_probability in scene["panels"].items():
        planes = -(-z // 8)
        bits = np.frombuffer(data, np.uint8, planes * x * y, at).reshape(planes, x * y).T
        occupied = np.unpackbits(np.ascontiguousarray(bits), axis=1, bitorder="little")[:, :z].reshape(shape) == 1
        at += planes * x * y
        classes, levels = np.full(shape, FREE, np.uint8), np.zeros(shape, np.uint8)
        classes[occupied] = np.frombuffer(data, np.uint8, occupied.sum(), at)
        at += occupied.sum()
        if has_probability:
            levels[occupied] = np.frombuffer(data, np.uint8, occupied.sum(), at)
            at += occupied.sum()
        volumes[name] = (classes, levels)
    counted = None
    if "truth" in volumes:
        either = (volumes["truth"][0] != FREE) | (volumes["prediction"][0] != FREE)
        counted = np.zeros(shape, bool)
        rest = np.frombuffer(data, np.uint8, offset=at)
        counted[either] = np.unpackbits(rest, bitorder="little")[: either.sum()] == 1
        at += len(rest)
    assert at == len(data)
    return volumes, counted
