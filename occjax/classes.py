"""The 18 occupancy classes: names, usual colours and the groups that protocols average over."""

import numpy as np

CLASS_NAMES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
)
NUM_CLASSES = len(CLASS_NAMES)
OTHERS = 0
FREE = NUM_CLASSES - 1
# Written into label arrays where a voxel must count in no loss and no metric.
IGNORE = 255

DYNAMIC_CLASSES = (2, 3, 4, 5, 6, 7, 9, 10)
STATIC_CLASSES = tuple(c for c in range(1, FREE) if c not in DYNAMIC_CLASSES)

# RGB, row = class; the colours that the field's figures use.
CLASS_COLORS = np.array(
    [
        (0, 0, 0),
        (255, 120, 50),
        (255, 192, 203),
        (255, 255, 0),
        (0, 150, 245),
        (0, 255, 255),
        (200, 180, 0),
        (255, 0, 0),
        (255, 240, 150),
        (135, 60, 0),
        (160, 32, 240),
        (255, 0, 255),
        (175, 0, 75),
        (75, 0, 75),
        (150, 240, 80),
        (230, 230, 250),
        (0, 175, 0),
        (255, 255, 255),
    ],
    dtype=np.uint8,
)

# Voxels per class over the Occ3D-nuScenes training split, in class order (published with Occ3D).
OCC3D_CLASS_COUNTS = np.array(
    [
        944004,
        1897170,
        152386,
        2391677,
        16957802,
        724139,
        189027,
        2074468,
        413451,
        2384460,
        5916653,
        175883646,
        4275424,
        51393615,
        61411620,
        105975596,
        116424404,
        1892500630,
    ],
    dtype=np.int64,
)
