"""Objects that get a nuScenes box, each built of a few solids around its own origin on the ground."""

import dataclasses

import numpy as np

from occjax.classes import CLASS_NAMES
from occjax.synthetic.shapes import ELLIPSOID, FRUSTUM, footprint_m, heading_vector, pose_from_angles

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

# The makers below, and those of `scenery`, draw in a fixed order: two draws swapped are another world
# (`generate.FORMAT`).
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
      material, color: one of `materials.MATERIAL`, and RGB in 0..1.
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
    """An object of one class.

    Attributes:
      name: of its class.
      solids: its parts.
      x, y, z, yaw: where its origin is at scene time 0, city frame, metres and radians.
      speed: along its yaw, for the whole scene, metres per second.
    """

    name: str
    solids: list[Solid]
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    speed: float = 0.0

    def stand(self, x, y, z, yaw, speed=0.0) -> "Thing":
        """Puts it there, metres and radians, and returns it."""
        self.x, self.y, self.z, self.yaw, self.speed = (float(v) for v in (x, y, z, yaw, speed))
        return self

    def position_at(self, time_s) -> np.ndarray:
        """[..., 2] where its origin is at scene times [...]: it goes straight along its yaw at constant speed."""
        return (self.x, self.y) + self.speed * np.asarray(time_s)[..., None] * heading_vector(self.yaw)

    def box_pose(self, time_s: float) -> np.ndarray:
        """[4, 4] pose, city frame, of the centre of its box at scene time."""
        # Objects stand on their origin, nuScenes' boxes hang on their centre.
        return pose_from_angles((*self.position_at(time_s), self.z + self.half_size[2]), self.yaw)

    def swept_m(self, duration_s=0.0, margin_m=0.0) -> np.ndarray:
        """Corners [4, 2] of what it covers from scene time 0 to `duration_s`, grown by a margin, city frame."""
        reach = self.speed * duration_s / 2
        return footprint_m(self.position_at(duration_s / 2), self.half_size[:2] + margin_m + [reach, 0], self.yaw)

    @property
    def half_size(self) -> np.ndarray:
        """[3] half length, width and height, metres, of the box around all parts, centred on the origin in x and y."""
        reach = [np.abs(s.center[:2]) + np.maximum(s.half[:2], s.top or s.half[:2]) for s in self.solids]
        height = max(s.center[2] + s.half[2] for s in self.solids)
        return np.array([*np.max(reach, axis=0), height / 2])


def box(x, y, z0, z1, hx, hy, material, color, top=None) -> Solid:
    """A frustum from z0 to z1 over (x, y), metres; half sizes hx, hy at the bottom and `top` (x, y) at the top."""
    return Solid(FRUSTUM, (x, y, (z0 + z1) / 2), (hx, hy, (z1 - z0) / 2), material, color, top)


def ball(x, y, z, hx, hy, hz, material, color) -> Solid:
    """An ellipsoid with centre (x, y, z) and semi-axes (hx, hy, hz), metres."""
    return Solid(ELLIPSOID, (x, y, z), (hx, hy, hz), material, color)


def pick(rng, options):
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def maker_by_share(rng, *shares):
    """The first of `shares`, (limit, maker) with growing limits, whose limit exceeds a draw from 0 to 1, else None."""
    draw = rng.random()
    return next((maker for limit, maker in shares if draw < limit), None)


def tint(rng, color, spread=0.06):
    """RGB `color` with a little of its own brightness and hue."""
    return tuple(np.clip(np.array(color) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 0.02, 0.97))


def car(rng) -> Thing:
    """A car or van: a body, and on it a cabin, which sits further back on tall ones."""
    length, width, height = rng.uniform(4.0, 4.9), rng.uniform(1.75, 1.95), rng.uniform(1.42, 1.75)
    hx, hy, color = length / 2, width / 2, tint(rng, pick(rng, CAR_COLORS), 0.03)
    belt = 0.55 * height  # where the windows begin
    shift = -0.06 * length if height < 1.6 else -0.12 * length
    cabin = box(shift, 0, belt, height, 0.36 * length, hy * 0.94, "cabin", color, (0.23 * length, hy * 0.76))
    body = box(0, 0, 0.18, belt, hx, hy, "body", color, (hx * 0.97, hy * 0.95))
    return Thing("car", [body, cabin])


def truck(rng) -> Thing:
    """A lorry: frame, driver's cab and a load that may be a box of another colour."""
    length, height, color = rng.uniform(6.5, 9.5), rng.uniform(2.9, 3.6), tint(rng, pick(rng, CAR_COLORS))
    hx, cargo = length / 2, tint(rng, pick(rng, ((0.88, 0.88, 0.86), (0.7, 0.72, 0.75), (0.25, 0.4, 0.6))))
    head = box(hx - 1.0, 0, 0.5, 2.5, 1.0, 1.15, "cabin", color, (0.85, 1.1))
    load = box(-1.1, 0, 0.95, height, hx - 1.1, 1.25, "container", cargo)
    frame = box(0, 0, 0.2, 0.95, hx - 0.05, 1.1, "body", (0.12, 0.12, 0.13))
    return Thing("truck", [frame, head, load])


def bus(rng) -> Thing:
    """A bus in one piece; its windows are paint."""
    hx, color = rng.uniform(10.5, 12.5) / 2, tint(rng, pick(rng, BRIGHT_COLORS))
    return Thing("bus", [box(0, 0, 0.25, rng.uniform(3.0, 3.4), hx, 1.3, "bus", color, (hx * 0.99, 1.24))])


def trailer(rng) -> Thing:
    """A trailer without its tractor."""
    hx, color = rng.uniform(8, 12) / 2, tint(rng, pick(rng, ((0.8, 0.8, 0.8), (0.55, 0.3, 0.15), (0.3, 0.45, 0.35))))
    load = box(0, 0, 1.15, rng.uniform(3.3, 3.9), hx, 1.25, "container", color)
    return Thing("trailer", [load, box(-0.25 * hx, 0, 0.15, 1.15, hx * 0.6, 1.1, "body", (0.1, 0.1, 0.1))])


def construction_vehicle(rng) -> Thing:
    """An excavator on tracks, boom and arm ahead."""
    color = tint(rng, (0.85, 0.6, 0.05), 0.04)
    tracks = [box(0, side, 0, 0.9, 2.0, 0.35, "plain", (0.1, 0.1, 0.1), (1.7, 0.35)) for side in (-0.95, 0.95)]
    house = box(-0.5, 0, 0.9, 2.0, 1.7, 1.3, "plain", color)
    cabin = box(0.3, 0.65, 2.0, 3.1, 0.8, 0.6, "cabin", color, (0.7, 0.55))
    boom = box(2.0, -0.2, 1.6, 3.4, 1.2, 0.2, "plain", color, (0.3, 0.2))
    arm = box(3.3, -0.2, 0.3, 2.6, 0.25, 0.18, "plain", color, (0.3, 0.18))
    return Thing("construction_vehicle", [*tracks, house, cabin, boom, arm])


def rider(rng, z: float) -> list[Solid]:
    """Head and torso of someone who sits at height `z`, metres."""
    shirt = tint(rng, pick(rng, BRIGHT_COLORS), 0.1)
    # By its cloth the annotations know that a two-wheeler is ridden.
    torso = box(-0.1, 0, z, z + 0.65, 0.17, 0.22, "cloth", shirt, (0.13, 0.2))
    return [torso, ball(-0.05, 0, z + 0.8, 0.13, 0.12, 0.15, "plain", (0.75, 0.55, 0.42))]


def two_wheeler(rng, name: str, ridden: bool) -> Thing:
    """A bicycle or motorcycle by `name`, upright, with somebody on it if `ridden`."""
    heavy = name == "motorcycle"
    color = tint(rng, pick(rng, BRIGHT_COLORS), 0.1)
    radius, half_width, reach = (0.31, 0.1, 0.7) if heavy else (0.35, 0.05, 0.55)
    wheels = [ball(x, 0, radius, radius, half_width, radius, "plain", (0.06, 0.06, 0.06)) for x in (-reach, reach)]
    depth = 0.22 if heavy else 0.07
    frame = box(-0.05, 0, 0.38, 0.85, 0.62, depth, "plain", color, (0.4, depth))
    bar = box(0.45, 0, 0.85, 1.08, 0.07, 0.34, "plain", (0.15, 0.15, 0.15))
    return Thing(name, [*wheels, frame, bar, *(rider(rng, 0.85) if ridden else [])])


def bicycle(rng, ridden: bool = False) -> Thing:
    """A bicycle, parked unless `ridden`."""
    return two_wheeler(rng, "bicycle", ridden)


def motorcycle(rng, ridden: bool = False) -> Thing:
    """A motorcycle, parked unless `ridden`."""
    return two_wheeler(rng, "motorcycle", ridden)


def pedestrian(rng) -> Thing:
    """An adult in mid-stride."""
    height = rng.uniform(1.55, 1.9)
    trousers, shirt = tint(rng, pick(rng, CAR_COLORS), 0.05), tint(rng, pick(rng, BRIGHT_COLORS + CAR_COLORS), 0.1)
    skin = pick(rng, ((0.85, 0.65, 0.5), (0.55, 0.38, 0.26), (0.35, 0.23, 0.16)))
    legs = [box(0.06 * s, 0.1 * s, 0, 0.48 * height, 0.1, 0.08, "cloth", trousers) for s in (-1, 1)]
    torso = box(0, 0, 0.47 * height, 0.83 * height, 0.15, 0.24, "cloth", shirt, (0.14, 0.22))
    head = ball(0, 0, 0.92 * height, 0.11, 0.1, 0.08 * height, "plain", skin)
    return Thing("pedestrian", [*legs, torso, head])


def barrier(rng) -> Thing:
    """A concrete barrier or a striped board, 2 m across its own x."""
    if rng.random() < 0.5:
        return Thing("barrier", [box(0, 0, 0, 0.95, 0.28, 1.0, "plain", tint(rng, (0.62, 0.6, 0.57)), (0.1, 1.0))])
    return Thing("barrier", [box(0, 0, 0.0, 1.0, 0.15, 0.95, "striped", (0.85, 0.2, 0.1))])


def traffic_cone(rng) -> Thing:
    """A traffic cone on its foot."""
    height = rng.uniform(0.7, 1.0)
    base = box(0, 0, 0, 0.06, 0.2, 0.2, "plain", (0.1, 0.1, 0.1))
    tip = box(0, 0, 0.06, height, 0.15, 0.15, "striped", (0.95, 0.35, 0.05), (0.03, 0.03))
    return Thing("traffic_cone", [base, tip])


def bin_(rng) -> Thing:
    """A waste container: class others, a nuScenes pushable object."""
    color = tint(rng, pick(rng, ((0.1, 0.3, 0.15), (0.2, 0.2, 0.22), (0.1, 0.2, 0.45))))
    return Thing("others", [box(0, 0, 0, rng.uniform(1.0, 1.3), 0.4, 0.55, "plain", color, (0.45, 0.6))])
