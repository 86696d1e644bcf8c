"""Tables of the city, the 13 of nuScenes."""

import hashlib

import numpy as np

from occjax.synthetic import rig
from occjax.synthetic.objects import CATEGORIES

# The devkit takes any version as the folder of the tables; this one keeps anybody from taking them for nuScenes.
VERSION = "v1.0-synthetic"
VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
# Of each kind of object: one for when it does something, one for when it does not.
ATTRIBUTES = {
    "vehicle": ("vehicle.moving", "vehicle.parked"),
    "cycle": ("cycle.with_rider", "cycle.without_rider"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
}


def make_token(*parts) -> str:
    """A token of 32 hexadecimal digits, as nuScenes has them, that depends on `parts` alone."""
    # Not random: the same configuration gives the same bytes. Systems that forbid MD5 allow it where it guards nothing.
    return hashlib.md5("/".join(str(p) for p in parts).encode(), usedforsecurity=False).hexdigest()


def row(key: tuple, **fields) -> dict:
    """A row of a table: its token, which `make_token` makes of `key`, and then the fields in their order."""
    return {"token": make_token(*key), **fields}


def pose_record(parent_from_child: np.ndarray) -> dict:
    """`rotation` (w, x, y, z) and `translation` (metres) of a pose [4, 4], as nuScenes writes them."""
    return {
        "rotation": rig.quaternion_from_rotation(parent_from_child[:3, :3]),
        "translation": [float(v) for v in parent_from_child[:3, 3]],
    }


def attribute_tokens(name: str, speed: float, ridden: bool) -> list[str]:
    """Those of an object of class `name`; none for what nuScenes gives none, like barriers."""
    is_cycle = name in ("bicycle", "motorcycle")
    kind = "cycle" if is_cycle else "vehicle" if CATEGORIES[name].startswith("vehicle.") else name
    if kind not in ATTRIBUTES:
        return []
    active, idle = ATTRIBUTES[kind]
    return [make_token("attribute", active if (ridden if is_cycle else speed) else idle)]


def shared_tables() -> dict[str, list[dict]]:
    """Tables that do not depend on the scenes."""
    return {
        "category": [
            row(("category", name), name=name, description=f"synthetic {own}", index=i)
            for i, (own, name) in enumerate(CATEGORIES.items())
        ],
        "attribute": [
            row(("attribute", name), name=name, description="") for names in ATTRIBUTES.values() for name in names
        ],
        "visibility": [{"token": t, "level": v, "description": ""} for t, v in VISIBILITY.items()],
        "sensor": [
            row(("sensor", channel), channel=channel, modality="lidar" if channel == rig.LIDAR else "camera")
            for channel in rig.MOUNTS
        ],
    }


def calibration_records(scene_name: str, width: int, height: int) -> list[dict]:
    """One calibrated_sensor record per sensor of a scene."""
    return [
        row(
            ("calibration", scene_name, channel),
            sensor_token=make_token("sensor", channel),
            **pose_record(rig.ego_from_sensor(channel)),
            camera_intrinsic=[] if channel == rig.LIDAR else rig.pixel_from_cam(channel, width, height).tolist(),
        )
        for channel in rig.MOUNTS
    ]


def link(records: list[dict]) -> None:
    """Fills `prev` and `next` of records that follow each other in time; empty at the ends, as the devkit expects."""
    for i, record in enumerate(records):
        record["prev"] = records[i - 1]["token"] if i else ""
        record["next"] = records[i + 1]["token"] if i + 1 < len(records) else ""
