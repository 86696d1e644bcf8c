"""The things that stand and move in the city, each built of a few solids around its own origin on the ground."""

import dataclasses

import numpy as np

from occjax.classes import CLASS_NAMES
from occjax.synthetic.shapes import ELLIPSOID, FRUSTUM

# How a surface is painted; the renderer knows one pattern for each.
MATERIALS = (
    "plain",
    "facade",
    "roof",
    "foliage",
    "bark",
    "body",
    "cabin",
    "bus",
    "striped",
    "cloth",
    "container",
)
MATERIAL = {name: i for i, name in enumerate(MATERIALS)}
CLASS = {name: i for i, name in enumerate(CLASS_NAMES)}

# nuScenes category of each kind of object that gets a box.
CATEGORIES = {
    "others": "movable_object.pushable_pullable",
    "barrier": "movable_object.barrier",
    "bicycle": "vehicle.bicycle",
    "bus": "vehicle.bus.rigid",
    "car": "vehicle.car",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "trailer": "vehicle.trailer",
    "truck": "vehicle.truck",
}

CAR_COLORS = (
    (0.85, 0.85, 0.87),
    (0.08, 0.08, 0.09),
    (0.45, 0.47, 0.5),
    (0.6, 0.07, 0.06),
    (0.1, 0.2, 0.5),
    (0.9, 0.9, 0.88),
    (0.25, 0.28, 0.3),
    (0.75, 0.6, 0.15),
    (0.1, 0.35, 0.25),
)
BRIGHT_COLORS = ((0.9, 0.35, 0.05), (0.9, 0.75, 0.05), (0.1, 0.4, 0.75), (0.75, 0.1, 0.1), (0.1, 0.5, 0.25))


@dataclasses.dataclass
class Solid:
    """One part in the frame of its object: x forward, y left, z up from the ground, metres.

    Attributes:
      kind: FRUSTUM or ELLIPSOID.
      center, half: centre (x, y, z) and half sizes; `half` is taken at the bottom of a frustum.
      material, color: one of MATERIALS, and RGB in 0..1.
      top: half sizes (x, y) at the top; None = as at the bottom.
    """

    kind: int
    center: tuple
    half: tuple
    material: str
    color: tuple
    top: tuple | None = None


@dataclasses.dataclass
class Thing:
    """An object of one class: where it stands at scene time 0 (city frame) and how fast it goes along its yaw."""

    name: str
    solids: list[Solid]
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    speed: float = 0.0  # metres per second

    @property
    def half_size(self) -> np.ndarray:
        """Half length, width and height of the box around all parts, which is centred on the origin in x and y."""
        reach = [np.abs(s.center[:2]) + np.maximum(s.half[:2], s.top or s.half[:2]) for s in self.solids]
        height = max(s.center[2] + s.half[2] for s in self.solids)
        return np.array([*np.max(reach, axis=0), height / 2])


def box(x, y, z0, z1, hx, hy, material, color, top=None) -> Solid:
    """A frustum that stands from z0 to z1 over (x, y)."""
    return Solid(FRUSTUM, (x, y, (z0 + z1) / 2), (hx, hy, (z1 - z0) / 2), material, color, top)


def ball(x, y, z, hx, hy, hz, material, color) -> Solid:
    return Solid(ELLIPSOID, (x, y, z), (hx, hy, hz), material, color)


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


def tint(rng, color, spread=0.06):
    """`color` with a little of its own brightness and hue."""
    return tuple(np.clip(np.array(color) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 0.02, 0.97))


def car(rng) -> Thing:
    length, width, height = rng.uniform(4.0, 4.9), rng.uniform(1.75, 1.95), rng.uniform(1.42, 1.75)
    hx, hy, color = length / 2, width / 2, tint(rng, pick(rng, CAR_COLORS), 0.03)
    belt = 0.55 * height
    shift = -0.06 * length if height < 1.6 else -0.12 * length
    cabin = box(shift, 0, belt, height, 0.36 * length, hy * 0.94, "cabin", color, (0.23 * length, hy * 0.76))
    body = box(0, 0, 0.18, belt, hx, hy, "body", color, (hx * 0.97, hy * 0.95))
    return Thing("car", [body, cabin])


def truck(rng) -> Thing:
    length, height, color = rng.uniform(6.5, 9.5), rng.uniform(2.9, 3.6), tint(rng, pick(rng, CAR_COLORS))
    hx, cargo = length / 2, tint(rng, pick(rng, ((0.88, 0.88, 0.86), (0.7, 0.72, 0.75), (0.25, 0.4, 0.6))))
    head = box(hx - 1.0, 0, 0.5, 2.5, 1.0, 1.15, "cabin", color, (0.85, 1.1))
    load = box(-1.1, 0, 0.95, height, hx - 1.1, 1.25, "container", cargo)
    frame = box(0, 0, 0.2, 0.95, hx - 0.05, 1.1, "body", (0.12, 0.12, 0.13))
    return Thing("truck", [frame, head, load])


def bus(rng) -> Thing:
    hx, color = rng.uniform(10.5, 12.5) / 2, tint(rng, pick(rng, BRIGHT_COLORS))
    return Thing("bus", [box(0, 0, 0.25, rng.uniform(3.0, 3.4), hx, 1.3, "bus", color, (hx * 0.99, 1.24))])


def trailer(rng) -> Thing:
    hx, color = rng.uniform(8, 12) / 2, tint(rng, pick(rng, ((0.8, 0.8, 0.8), (0.55, 0.3, 0.15), (0.3, 0.45, 0.35))))
    load = box(0, 0, 1.15, rng.uniform(3.3, 3.9), hx, 1.25, "container", color)
    return Thing("trailer", [load, box(-0.25 * hx, 0, 0.15, 1.15, hx * 0.6, 1.1, "body", (0.1, 0.1, 0.1))])


def construction_vehicle(rng) -> Thing:
    color = tint(rng, (0.85, 0.6, 0.05), 0.04)
    tracks = [box(0, side, 0, 0.9, 2.0, 0.35, "plain", (0.1, 0.1, 0.1), (1.7, 0.35)) for side in (-0.95, 0.95)]
    house = box(-0.5, 0, 0.9, 2.0, 1.7, 1.3, "plain", color)
    cabin = box(0.3, 0.65, 2.0, 3.1, 0.8, 0.6, "cabin", color, (0.7, 0.55))
    boom = box(2.0, -0.2, 1.6, 3.4, 1.2, 0.2, "plain", color, (0.3, 0.2))
    arm = box(3.3, -0.2, 0.3, 2.6, 0.25, 0.18, "plain", color, (0.3, 0.18))
    return Thing("construction_vehicle", [*tracks, house, cabin, boom, arm])


def rider(rng, z: float) -> list[Solid]:
    shirt = tint(rng, pick(rng, BRIGHT_COLORS), 0.1)
    torso = box(-0.1, 0, z, z + 0.65, 0.17, 0.22, "cloth", shirt, (0.13, 0.2))
    return [torso, ball(-0.05, 0, z + 0.8, 0.13, 0.12, 0.15, "plain", (0.75, 0.55, 0.42))]


def two_wheeler(rng, name: str, ridden: bool) -> Thing:
    heavy = name == "motorcycle"
    color = tint(rng, pick(rng, BRIGHT_COLORS), 0.1)
    radius, half_width, reach = (0.31, 0.1, 0.7) if heavy else (0.35, 0.05, 0.55)
    wheels = [ball(x, 0, radius, radius, half_width, radius, "plain", (0.06, 0.06, 0.06)) for x in (-reach, reach)]
    depth = 0.22 if heavy else 0.07
    frame = box(-0.05, 0, 0.38, 0.85, 0.62, depth, "plain", color, (0.4, depth))
    bar = box(0.45, 0, 0.85, 1.08, 0.07, 0.34, "plain", (0.15, 0.15, 0.15))
    return Thing(name, [*wheels, frame, bar, *(rider(rng, 0.85) if ridden else [])])


def bicycle(rng, ridden: bool = False) -> Thing:
    return two_wheeler(rng, "bicycle", ridden)


def motorcycle(rng, ridden: bool = False) -> Thing:
    return two_wheeler(rng, "motorcycle", ridden)


def pedestrian(rng) -> Thing:
    height = rng.uniform(1.55, 1.9)
    trousers, shirt = tint(rng, pick(rng, CAR_COLORS), 0.05), tint(rng, pick(rng, BRIGHT_COLORS + CAR_COLORS), 0.1)
    skin = pick(rng, ((0.85, 0.65, 0.5), (0.55, 0.38, 0.26), (0.35, 0.23, 0.16)))
    legs = [box(0.06 * s, 0.1 * s, 0, 0.48 * height, 0.1, 0.08, "cloth", trousers) for s in (-1, 1)]
    torso = box(0, 0, 0.47 * height, 0.83 * height, 0.15, 0.24, "cloth", shirt, (0.14, 0.22))
    head = ball(0, 0, 0.92 * height, 0.11, 0.1, 0.08 * height, "plain", skin)
    return Thing("pedestrian", [*legs, torso, head])


def barrier(rng) -> Thing:
    if rng.random() < 0.5:
        return Thing("barrier", [box(0, 0, 0, 0.95, 0.28, 1.0, "plain", tint(rng, (0.62, 0.6, 0.57)), (0.1, 1.0))])
    return Thing("barrier", [box(0, 0, 0.0, 1.0, 0.15, 0.95, "striped", (0.85, 0.2, 0.1))])


def traffic_cone(rng) -> Thing:
    height = rng.uniform(0.7, 1.0)
    base = box(0, 0, 0, 0.06, 0.2, 0.2, "plain", (0.1, 0.1, 0.1))
    tip = box(0, 0, 0.06, height, 0.15, 0.15, "striped", (0.95, 0.35, 0.05), (0.03, 0.03))
    return Thing("traffic_cone", [base, tip])


def bin_(rng) -> Thing:
    color = tint(rng, pick(rng, ((0.1, 0.3, 0.15), (0.2, 0.2, 0.22), (0.1, 0.2, 0.45))))
    return Thing("others", [box(0, 0, 0, rng.uniform(1.0, 1.3), 0.4, 0.55, "plain", color, (0.45, 0.6))])


def tree(rng) -> Thing:
    trunk, radius = rng.uniform(1.8, 3.0), rng.uniform(1.2, 2.3)
    bark, leaf = tint(rng, (0.3, 0.22, 0.15), 0.03), tint(rng, (0.16, 0.34, 0.1), 0.04)
    solids = [box(0, 0, 0, trunk + 0.6 * radius, 0.2, 0.2, "bark", bark, (0.12, 0.12))]
    for _ in range(int(rng.integers(2, 5))):
        dx, dy = rng.normal(0, 0.35 * radius, 2)
        part = radius * rng.uniform(0.65, 1.0)
        z = trunk + radius * rng.uniform(0.6, 1.5)
        solids.append(ball(dx, dy, z, part, part, part * rng.uniform(0.75, 1.1), "foliage", tint(rng, leaf, 0.025)))
    return Thing("vegetation", solids)


def conifer(rng) -> Thing:
    height, radius, leaf = rng.uniform(5, 10), rng.uniform(1.2, 1.9), tint(rng, (0.08, 0.25, 0.12), 0.03)
    solids = [box(0, 0, 0, 1.2, 0.18, 0.18, "bark", (0.28, 0.2, 0.14))]
    for level in range(3):
        z0, size = 0.9 + level * 0.27 * height, radius * (1 - 0.27 * level)
        solids.append(box(0, 0, z0, z0 + 0.45 * height, size, size, "foliage", tint(rng, leaf, 0.02), (0.1, 0.1)))
    return Thing("vegetation", solids)


def bush(rng) -> Thing:
    size, color = rng.uniform(0.5, 1.1), tint(rng, (0.17, 0.33, 0.11), 0.04)
    return Thing("vegetation", [ball(0, 0, 0.35 * size, size, size * rng.uniform(0.8, 1.2), size, "foliage", color)])


def hedge(rng, length: float) -> Thing:
    height = rng.uniform(0.9, 1.6)
    return Thing("vegetation", [box(0, 0, 0, height, length / 2, 0.45, "foliage", tint(rng, (0.15, 0.3, 0.1), 0.03))])


def lamp(rng) -> Thing:
    gray = tint(rng, (0.35, 0.36, 0.37), 0.05)
    mast = box(0, 0, 0, 6.5, 0.11, 0.11, "plain", gray, (0.07, 0.07))
    return Thing("manmade", [mast, box(0.8, 0, 6.4, 6.6, 0.9, 0.12, "plain", gray)])


def signal(rng) -> Thing:
    mast = box(0, 0, 0, 3.4, 0.1, 0.1, "plain", (0.25, 0.26, 0.25))
    return Thing("manmade", [mast, box(0, 0, 2.5, 3.5, 0.2, 0.2, "plain", (0.08, 0.08, 0.08))])


def shelter(rng) -> Thing:
    glass, steel = (0.45, 0.55, 0.6), (0.3, 0.31, 0.33)
    back = box(-0.6, 0, 0.1, 2.3, 0.08, 1.9, "plain", glass)
    roof = box(0, 0, 2.3, 2.5, 0.8, 2.1, "plain", steel)
    posts = [box(0.6, y, 0, 2.3, 0.08, 0.08, "plain", steel) for y in (-1.8, 1.8)]
    return Thing("manmade", [back, roof, *posts, box(-0.3, 0, 0.0, 0.5, 0.25, 1.4, "plain", (0.5, 0.35, 0.2))])


FACADE_COLORS = (
    (0.62, 0.55, 0.46),
    (0.5, 0.3, 0.24),
    (0.72, 0.7, 0.66),
    (0.45, 0.47, 0.5),
    (0.66, 0.6, 0.5),
    (0.58, 0.42, 0.33),
    (0.8, 0.77, 0.7),
    (0.38, 0.42, 0.48),
)


def building(rng, half_x: float, half_y: float) -> Thing:
    height = rng.uniform(7, 16) if rng.random() < 0.6 else rng.uniform(16, 40)
    color = tint(rng, pick(rng, FACADE_COLORS))
    solids = [box(0, 0, 0, height, half_x, half_y, "facade", color)]
    if rng.random() < 0.5:
        plant_room = box(
            0, 0, height, height + rng.uniform(1.5, 4), half_x * 0.5, half_y * 0.5, "plain", tint(rng, color)
        )
        solids.append(plant_room)
    return Thing("manmade", solids)


def house(rng, half_x: float, half_y: float) -> Thing:
    eaves, color = rng.uniform(3.0, 5.8), tint(rng, pick(rng, FACADE_COLORS))
    roof = tint(rng, pick(rng, ((0.45, 0.2, 0.14), (0.25, 0.25, 0.28), (0.38, 0.28, 0.2))))
    ridge = (half_x + 0.2, 0.05) if half_x > half_y else (0.05, half_y + 0.2)
    top = box(0, 0, eaves, eaves + rng.uniform(1.8, 3.2), half_x + 0.3, half_y + 0.3, "roof", roof, ridge)
    return Thing("manmade", [box(0, 0, 0, eaves, half_x, half_y, "facade", color), top])


def container(rng) -> Thing:
    return Thing("manmade", [box(0, 0, 0, 2.6, 3.0, 1.2, "container", tint(rng, pick(rng, BRIGHT_COLORS)))])


def fence(rng, length: float) -> Thing:
    return Thing("manmade", [box(0, 0, 0, rng.uniform(1.6, 2.1), length / 2, 0.12, "striped", (0.45, 0.45, 0.48))])
