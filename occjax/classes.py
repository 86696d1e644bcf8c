"""The 18 occupancy classes: names, usual colours and the groups that protocols average over."""

import numpy as np

# Label files and teacher files hold row numbers, so the order is nuScenes' own and no row can move. The colours are RGB
# as the field's figures have them, the counts voxels over the Occ3D-nuScenes training split, published with Occ3D.
_CLASSES = (
    ("others", (0, 0, 0), 944_004),
    ("barrier", (255, 120, 50), 1_897_170),
    ("bicycle", (255, 192, 203), 152_386),
    ("bus", (255, 255, 0), 2_391_677),
    ("car", (0, 150, 245), 16_957_802),
    ("construction_vehicle", (0, 255, 255), 724_139),
    ("motorcycle", (200, 180, 0), 189_027),
    ("pedestrian", (255, 0, 0), 2_074_468),
    ("traffic_cone", (255, 240, 150), 413_451),
    ("trailer", (135, 60, 0), 2_384_460),
    ("truck", (160, 32, 240), 5_916_653),
    ("driveable_surface", (255, 0, 255), 175_883_646),
    ("other_flat", (175, 0, 75), 4_275_424),
    ("sidewalk", (75, 0, 75), 51_393_615),
    ("terrain", (150, 240, 80), 61_411_620),
    ("manmade", (230, 230, 250), 105_975_596),
    ("vegetation", (0, 175, 0), 116_424_404),
    ("free", (255, 255, 255), 1_892_500_630),
)
CLASS_NAMES = tuple(name for name, _, _ in _CLASSES)
CLASS_COLORS = np.array([color for _, color, _ in _CLASSES], np.uint8)  # [K, 3]
OCC3D_CLASS_COUNTS = np.array([count for _, _, count in _CLASSES], np.int64)  # [K]

NUM_CLASSES = len(CLASS_NAMES)
OTHERS = 0
FREE = NUM_CLASSES - 1
# Written into label arrays where a voxel must count in no loss and no metric.
IGNORE = 255

# What moves by itself or is towed; barriers and cones stand, and so does the rest but `others`, which is neither.
DYNAMIC_CLASSES = (2, 3, 4, 5, 6, 7, 9, 10)
STATIC_CLASSES = tuple(c for c in range(1, FREE) if c not in DYNAMIC_CLASSES)
# What wheels and feet stand on is occupied, but no obstacle.
GROUND_CLASSES = tuple(CLASS_NAMES.index(name) for name in ("driveable_surface", "other_flat", "sidewalk", "terrain"))
