"""The LiDAR, 32 beams that spin: casts its rays against the scene and returns points as nuScenes stores them."""

import dataclasses

import numpy as np

from occjax.synthetic.ground import Ground
from occjax.synthetic.raycast import KERB, SKY, cast_ground, cast_parts
from occjax.synthetic.shapes import Parts, corners_m

# The beams of a Velodyne HDL-32E, and as many rays as a nuScenes sweep holds, 32 x 1084 = 34,688.
RINGS = 32
COLUMNS = 1084
ELEVATION_RAD = np.radians(np.linspace(-30.67, 10.67, RINGS))
RANGE_M = (1.0, 100.0)  # nearer than 1 m there is only the car itself, which is not modelled
RANGE_NOISE_M = 0.01
DROPOUT = 0.03  # share of the rays that never return; the masks of observed voxels do not know of it
MARGIN_RAD = np.radians(2.5)  # the sensor's tilt shifts elevations and azimuths by less


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One turn of the LiDAR.

    Attributes:
      points: float32 [n, 5] x, y, z (LiDAR frame, metres), intensity 0..255, ring.
      part: int32 [n] part that each point lies on, or a negative code of `raycast`.
      range_m: float32 [RINGS, COLUMNS] how far each of the `lidar_rays` goes, without noise.
    """

    points: np.ndarray
    part: np.ndarray
    range_m: np.ndarray


def lidar_rays() -> np.ndarray:
    """Unit directions float32 [3, RINGS, COLUMNS] in the LiDAR frame, clockwise from straight ahead (y)."""
    azimuth = np.pi / 2 - (np.arange(COLUMNS) + 0.5) * 2 * np.pi / COLUMNS
    level = np.cos(ELEVATION_RAD)[:, None]
    z = np.broadcast_to(np.sin(ELEVATION_RAD)[:, None], (RINGS, COLUMNS))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), z]).astype(np.float32)


def lidar_windows(parts: Parts, city_from_lidar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ring and column ranges [P, 4] that contain each part, and its least distance [P].

    Columns may run past either end of the turn.
    """
    origin = city_from_lidar[:3, 3]
    # As if the sensor stood upright; MARGIN_RAD makes up for its tilt.
    points = corners_m(parts) - origin
    forward = city_from_lidar[:2, 1]
    heading = np.arctan2(forward[1], forward[0])
    clockwise = heading - np.arctan2(points[..., 1], points[..., 0])
    toward = parts.center_m[:, :2] - origin[:2]
    middle = (heading - np.arctan2(toward[:, 1], toward[:, 0]))[:, None]
    # Angles from the middle of the part, so that none is torn apart where the turn begins.
    offset = (clockwise - middle + np.pi) % (2 * np.pi) - np.pi
    middle = middle % (2 * np.pi)
    scale = COLUMNS / (2 * np.pi)
    column0 = np.floor((middle[:, 0] + offset.min(axis=1) - MARGIN_RAD) * scale)
    column1 = np.ceil((middle[:, 0] + offset.max(axis=1) + MARGIN_RAD) * scale)
    radius = np.hypot(*np.maximum(parts.half_m[:, :2], parts.top_half_m).T)
    near = np.maximum(np.hypot(*toward.T) - radius, 0.05)
    far = np.hypot(points[..., 0], points[..., 1]).max(axis=1)
    # Seen from inside its own outline, or nearly, a part may lie in every direction.
    around = np.hypot(*toward.T) <= radius * 1.05
    column0[around], column1[around] = 0, COLUMNS
    low, high = points[..., 2].min(axis=1), points[..., 2].max(axis=1)
    # The lowest ray to a part goes to its near side if its foot lies below the sensor, else to its far side; the
    # highest ray the other way round.
    elevation0 = np.arctan2(low, np.where(low < 0, near, far)) - MARGIN_RAD
    elevation1 = np.arctan2(high, np.where(high > 0, near, far)) + MARGIN_RAD
    ring0 = np.searchsorted(ELEVATION_RAD, elevation0)
    ring1 = np.searchsorted(ELEVATION_RAD, elevation1)
    ring1[near > RANGE_M[1]] = 0
    return np.stack([ring0, ring1, column0, column1], axis=1).astype(int), np.hypot(*toward.T) - radius


def sweep(rng, ground: Ground, parts: Parts, city_from_lidar: np.ndarray) -> Sweep:
    """One turn, frozen at the time of `parts` (nuScenes sweeps are compensated for motion).

    Args:
      rng: generator of dropouts, range and intensity.
      city_from_lidar: [4, 4] pose of the sensor.
    """
    rays_lidar = lidar_rays()
    rays = np.einsum("ij,jrc->irc", city_from_lidar[:3, :3], rays_lidar).astype(np.float32)
    origin = city_from_lidar[:3, 3]
    hits = cast_ground(ground, origin, rays)
    windows, nearest = lidar_windows(parts, city_from_lidar)
    for shift in (0, COLUMNS, -COLUMNS):  # a part may straddle the seam of the turn
        shifted = windows.copy()
        shifted[:, 2:] = np.clip(windows[:, 2:] + shift, 0, COLUMNS)
        cast_parts(parts, shifted, nearest, origin, rays, hits)

    distance, part = hits.distance.T.ravel(), hits.part.T.ravel()  # column by column, as the sensor fires
    heard = (distance > RANGE_M[0]) & (distance < RANGE_M[1]) & (part != SKY) & (rng.random(len(part)) >= DROPOUT)
    noisy = distance + rng.normal(0, RANGE_NOISE_M, len(distance)).astype(np.float32)
    xyz = (rays_lidar * noisy.reshape(COLUMNS, RINGS).T).transpose(2, 1, 0).reshape(-1, 3)
    # Most nuScenes intensities are low too: even white reaches no more than 0.35 of the scale.
    brightness = np.where(part >= 0, parts.color.mean(axis=1)[np.maximum(part, 0)], np.where(part == KERB, 0.4, 0.25))
    intensity = np.clip(np.round(255 * brightness * (0.25 + 0.1 * rng.random(len(part)))), 0, 255)
    ring = np.tile(np.arange(RINGS), COLUMNS)
    points = np.concatenate([xyz, intensity[:, None], ring[:, None]], axis=1).astype(np.float32)
    return Sweep(points[heard], part[heard], hits.distance)
