"""Materials: a colour for every point that rays hit on parts."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Surface:
    """What the painters know about n points on parts.

    Attributes:
      position: float32 [3, n] city frame, metres.
      local: float32 [3, n] in the frame of the part, from its centre, metres.
      half: float32 [3, n] half sizes of the part, metres.
      along: float32 [n] metres to the side along the face.
      face: uint8 [n] in the order of `face_planes`, 6 on ellipsoids.
      owner: int32 [n] object that the part belongs to.
      color: float32 [n, 3] the part's own RGB in 0..1.
      footprint_m: float32 [n] width of a pixel at that distance.
    """

    position: np.ndarray
    local: np.ndarray
    half: np.ndarray
    along: np.ndarray
    face: np.ndarray
    owner: np.ndarray
    color: np.ndarray
    footprint_m: np.ndarray

    @property
    def height(self) -> np.ndarray:
        """Height [n] over the road, metres."""
        return self.position[2]

    def take(self, chosen: np.ndarray) -> "Surface":
        """The points where `chosen`, bool [n], holds."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Surface(**{name: v[chosen] if name == "color" else v[..., chosen] for name, v in values.items()})


def hash_noise(*integers: np.ndarray) -> np.ndarray:
    """Repeatable noise in 0 to 1, float32 [...], one value per tuple of up to four integers, each [...].

    A texture has to look the same from every camera and at every time, which draws of a generator would not.
    """
    h = np.zeros(integers[0].shape, np.uint32)
    # xxHash's primes; the shift brings what multiplying did to the high bits down to the 16 that are kept.
    for value, prime in zip(integers, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F), strict=False):
        h = (h ^ value.astype(np.int32).view(np.uint32)) * np.uint32(prime)
        h ^= h >> np.uint32(15)
    return (h & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65536)


def _mix(color, other, weight):
    """Colours [n, 3] moved towards an RGB `other` by weights [n] in 0..1."""
    return color + (np.asarray(other, np.float32) - color) * weight[..., None]


def _facade(p):
    # Patterns hang on the city's own coordinates and the owner: floors are 3.1 m, windows 2.4 to 3.6 m by the building.
    period = 2.4 + 1.2 * hash_noise(p.owner)
    floor = np.floor(p.height / 3.1)
    column = np.floor(p.along / period)
    u, v = p.along / period - column, p.height / 3.1 - floor
    window = (u > 0.2) & (u < 0.8) & (v > 0.28) & (v < 0.8)
    ground_floor = p.height < 3.1
    window = np.where(ground_floor, (u > 0.06) & (v > 0.12) & (v < 0.75), window)
    shine = hash_noise(column, floor, p.owner, p.face)
    glass = np.stack([0.16 + 0.2 * shine, 0.2 + 0.24 * shine, 0.26 + 0.28 * shine], axis=-1)
    # One window in fourteen is lit from inside.
    glass[shine > 0.93] = (0.85, 0.75, 0.5)
    awning = ground_floor & (v >= 0.75)
    sign = np.stack([hash_noise(np.floor(p.along / 6), p.owner, p.face + k) for k in (1, 2, 3)], axis=-1)
    fade = np.clip(1.4 - p.footprint_m / 0.6, 0.25, 1)  # windows blur with distance instead of flickering
    wall = p.color * (0.94 + 0.1 * (np.abs(v - 0.02) > 0.05))[..., None]
    wall = _mix(wall, sign, 0.7 * awning)
    is_side = p.face < 4
    return _mix(np.where(is_side[..., None], wall, 0.8 * p.color + 0.05), glass, window * fade * is_side)


def _roof(p):
    return p.color * (0.9 + 0.2 * (np.floor(p.height / 0.28) % 2) * (p.footprint_m < 0.2))[..., None]


def _foliage(p):
    x, y, z = p.position
    # Noise at three scales, each fading before its cells become smaller than a pixel and would flicker.
    grain = np.zeros_like(x)
    for cell, weight in ((0.11, 0.5), (0.33, 0.35), (0.9, 0.3)):
        noise = hash_noise(np.floor(x / cell), np.floor(y / cell), np.floor(z / cell))
        grain += weight * (noise - 0.5) * np.clip(1.6 - p.footprint_m / cell, 0.15, 1)
    return p.color * (1 + 1.3 * grain)[..., None]


def _bark(p):
    return p.color * (0.8 + 0.4 * hash_noise(np.floor(p.along / 0.06), np.floor(p.height / 0.3)))[..., None]


def _wheels(p, color, x_share, radius):
    """Two wheels on each side, near the ends of the part, painted into colours [n, 3]."""
    # Paint, not solids: those would be four casts more for every vehicle, sensor and keyframe.
    r = np.hypot(np.abs(p.local[0]) - x_share * p.half[0], p.height - radius)  # from the nearer axle
    side = (p.face == 2) | (p.face == 3)
    tyre = _mix(color, (0.05, 0.05, 0.05), (r < radius) & side)
    return _mix(tyre, (0.45, 0.46, 0.48), (r < 0.55 * radius) & side)


def _lamps(p, color):
    """Head lamps white on the front, tail lamps red on the back, grille and plate between; colours [n, 3]."""
    # Front and back differ, as they must for a heading to be seen in a picture.
    across = np.abs(p.local[1]) / p.half[1]
    level = p.local[2] / p.half[2]
    lamp = (across > 0.62) & (level > 0.05) & (level < 0.65)
    plate = (across < 0.3) & (level > -0.55) & (level < -0.05)
    grille = (across < 0.55) & (level > 0.1) & (level < 0.55)
    front, back = p.face == 0, p.face == 1
    color = _mix(color, (0.07, 0.07, 0.08), 1.0 * (front & grille))
    color = _mix(color, (0.95, 0.95, 0.88), 1.0 * (front & lamp))
    color = _mix(color, (0.75, 0.05, 0.05), 1.0 * (back & lamp))
    return _mix(color, (0.85, 0.85, 0.8), 1.0 * ((front | back) & plate))


def _body(p):
    color = _mix(p.color, (0.08, 0.08, 0.08), 0.8 * (p.local[2] < -0.7 * p.half[2]))
    return _wheels(p, _lamps(p, color), 0.63, 0.34)


def _cabin(p):
    level = p.local[2] / p.half[2]
    pillar = np.abs(p.along) / np.where(p.face < 2, p.half[1], p.half[0])
    middle = (p.face >= 2) & (pillar < 0.045)
    glass = (p.face < 4) & (level > -0.85) & (level < 0.8) & (pillar < 0.82) & ~middle
    return _mix(p.color, (0.1, 0.13, 0.16), 0.9 * glass)


def _bus(p):
    u = p.along / 1.5 - np.floor(p.along / 1.5)
    glass = (p.face < 4) & (p.height > 1.15) & (p.height < 2.45) & ((u > 0.08) | (p.face < 2))
    stripe = (p.face < 4) & (p.height > 0.75) & (p.height < 0.95)
    color = _mix(_mix(p.color, (0.9, 0.9, 0.9), 0.8 * stripe), (0.1, 0.13, 0.16), 0.9 * glass)
    lamps = (p.face < 2) & (np.abs(p.local[1]) > 0.75 * p.half[1]) & (p.height > 0.5) & (p.height < 0.75)
    color = _mix(color, (0.95, 0.9, 0.8), 1.0 * (lamps & (p.face == 0)))
    return _wheels(p, _mix(color, (0.8, 0.05, 0.05), 1.0 * (lamps & (p.face == 1))), 0.66, 0.48)


def _striped(p):
    band = np.floor(p.height / 0.22) % 2
    return _mix(p.color, (0.93, 0.93, 0.9), band * np.clip(1.5 - p.footprint_m / 0.2, 0.3, 1))


def _cloth(p):
    return p.color * (0.85 + 0.3 * hash_noise(np.floor(p.along / 0.05), np.floor(p.height / 0.12), p.owner))[..., None]


def _container(p):
    ridge = np.floor(p.along / 0.14) % 2
    return p.color * (1 - 0.16 * ridge * (p.face < 4) * np.clip(1.5 - p.footprint_m / 0.14, 0, 1))[..., None]


PAINTERS = {
    "facade": _facade,
    "roof": _roof,
    "foliage": _foliage,
    "bark": _bark,
    "body": _body,
    "cabin": _cabin,
    "bus": _bus,
    "striped": _striped,
    "cloth": _cloth,
    "container": _container,
}
# How a surface is painted, as a number; what is plain keeps its colour.
MATERIAL = {name: i for i, name in enumerate(("plain", *PAINTERS))}
