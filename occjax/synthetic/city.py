"""The city of one scene: streets, ground, everything that stands and moves, the ego's drive, and where on Earth."""

import dataclasses

import numpy as np

from occjax.synthetic import scenery, traffic
from occjax.synthetic.blocks import BlockBuilder
from occjax.synthetic.ground import ROAD, TERRAIN, TEXEL_M, Ground, weather
from occjax.synthetic.markings import paint_markings
from occjax.synthetic.materials import MATERIAL
from occjax.synthetic.objects import CLASS, Thing
from occjax.synthetic.placement import EGO_PATH, Site
from occjax.synthetic.shapes import Parts, footprint_m, heading_vector, pose_from_angles, turned
from occjax.synthetic.streets import Path, Street, draw_path, draw_streets, junction_gaps

KEYFRAME_STEP_S = 0.5
# The scene's clock starts this long before the first keyframe: cameras fire before their keyframe's sweep, and the
# ego's path has no points before time 0.
LEAD_IN_S = 0.5
SIGHT_M = 73.0  # the city reaches this far around the ego's path: beyond the corners of the 100 m grid


@dataclasses.dataclass(frozen=True)
class City:
    """One scene.

    Attributes:
      ground: class and colour of the ground.
      things: all objects; the index is the `owner` of their parts.
      parts, part_velocity_mps: their solids at scene time 0, and how these move.
      path, speed_mps: the ego's drive: at time t it is at distance speed * t along the path.
      wobble: float64 [4, 2] amplitude (rad) and phase of the ego's slow roll and pitch.
      global_from_city: float64 [4, 4] turn and shift into the map's frame.
      sun: float64 [3] unit vector to the sun, city frame.
    """

    ground: Ground
    things: list[Thing]
    parts: Parts
    part_velocity_mps: np.ndarray
    path: Path
    speed_mps: float
    wobble: np.ndarray
    global_from_city: np.ndarray
    sun: np.ndarray

    def city_from_ego(self, time_s: float) -> np.ndarray:
        """[4, 4] pose of the ego (x forward, y left, z up, on the road) at scene time."""
        # Without roll and pitch every camera would see a flat world, and dropping them somewhere would show nowhere.
        position, heading = self.path.at(self.speed_mps * time_s)
        roll, pitch = (a * np.sin(0.9 * (i + 1) * time_s + phase) for i, (a, phase) in enumerate(self.wobble))
        return pose_from_angles((*position, 0), float(heading), pitch, roll)

    def parts_at(self, time_s: float) -> Parts:
        """Every solid of the scene where it is at scene time."""
        return dataclasses.replace(self.parts, center_m=self.parts.center_m + time_s * self.part_velocity_mps)


def assemble_parts(things: list[Thing]) -> tuple[Parts, np.ndarray]:
    """The P solids of all things at scene time 0 and their velocities [P, 3] in m/s, city frame."""
    rows = [(i, thing, solid) for i, thing in enumerate(things) for solid in thing.solids]
    yaw = np.array([thing.yaw for _, thing, _ in rows])
    local = np.array([solid.center for _, _, solid in rows])
    offset = np.column_stack([turned(local[:, 0], local[:, 1], yaw), local[:, 2]])
    parts = Parts(
        kind=np.array([s.kind for _, _, s in rows], np.uint8),
        center_m=offset + np.array([(t.x, t.y, t.z) for _, t, _ in rows]),
        yaw_rad=yaw,
        half_m=np.array([s.half for _, _, s in rows], float),
        top_half_m=np.array([s.top or s.half[:2] for _, _, s in rows], float),
        semantic=np.array([CLASS[t.name] for _, t, _ in rows], np.uint8),
        material=np.array([MATERIAL[s.material] for _, _, s in rows], np.uint8),
        color=np.array([s.color for _, _, s in rows], np.float32),
        owner=np.array([i for i, _, _ in rows], np.int32),
    )
    speed = np.array([t.speed for _, t, _ in rows])
    return parts, np.column_stack([speed[:, None] * heading_vector(yaw), np.zeros_like(speed)])


def build_city(rng: np.random.Generator, keyframes: int) -> City:
    """Draws a scene long enough for `keyframes` keyframes half a second apart.

    The order of the draws is part of the world (`generate.FORMAT`).
    """
    duration = LEAD_IN_S * 2 + KEYFRAME_STEP_S * max(keyframes - 1, 0)
    # A few scenes stand still, as at a light: nothing that reads them may count on motion.
    speed = float(rng.uniform(3.0, 9.0)) if rng.random() < 0.92 else 0.0
    along_x, along_y, path = _draw_drive(rng, max(speed * duration, 1.0))

    lower, upper = path.points_m.min(axis=0) - SIGHT_M, path.points_m.max(axis=0) + SIGHT_M
    asphalt = tuple(np.array([0.27, 0.27, 0.28]) * rng.uniform(0.8, 1.35))
    pavement = tuple(np.array([0.56, 0.55, 0.53]) * rng.uniform(0.85, 1.15))
    columns, rows = np.ceil((upper - lower) / TEXEL_M).astype(int)
    ground = Ground(lower, np.full((rows, columns), TERRAIN, np.uint8), np.zeros((rows, columns, 3), np.uint8))
    # All is carriageway first; the blocks are laid over it, and what they leave are the streets.
    ground.fill(lower[0], upper[0], lower[1], upper[1], ROAD, asphalt)
    site = Site(lower, upper)
    times = np.linspace(0, duration, max(int(duration / 0.1), 2))
    ego_xy, ego_heading = path.at(speed * times)
    clearance = traffic.EgoClearance(times, ego_xy, ego_heading)
    # Before anything is placed: nothing that stands may stand in the ego's way. Wider than the car by 0.75 m a side.
    for position, heading in zip(ego_xy, ego_heading, strict=True):
        middle = position + traffic.EGO_CENTER_AHEAD_M * heading_vector(heading)
        site.block(footprint_m(middle, (3.6, 1.7), heading), EGO_PATH)

    builder = BlockBuilder(rng, ground, site, pavement, asphalt)
    for a, b in zip(along_y[:-1], along_y[1:], strict=True):
        for c, d in zip(along_x[:-1], along_x[1:], strict=True):
            x0, x1 = a.center_m + a.half_m, b.center_m - b.half_m
            y0, y1 = c.center_m + c.half_m, d.center_m - d.half_m
            if x1 > lower[0] and x0 < upper[0] and y1 > lower[1] and y0 < upper[1]:
                builder.build(x0, x1, y0, y1)

    for network, crossing in ((along_x, along_y), (along_y, along_x)):
        for street in network:
            axis = street.axis
            if lower[1 - axis] < street.center_m < upper[1 - axis]:
                _fill_street(rng, ground, site, clearance, street, crossing, lower[axis], upper[axis])
    # Walkers look for pavement by its class, so all ground has to be laid; the grain comes over everything painted.
    traffic.walk(rng, site, ground, clearance, lower, upper, int(rng.integers(12, 40)))
    weather(rng, ground)
    _raise_skyline(rng, site, lower, upper)

    # The sun stands 29 to 63 degrees high: low enough for shadows to show, high enough for them to stay near.
    yaw, azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    wobble = np.stack([rng.uniform(0.001, 0.006, 2), rng.uniform(0, 2 * np.pi, 2)], axis=-1)
    parts, velocity = assemble_parts(site.things)
    global_from_city = _global_from_city(yaw, lower, upper)
    return City(ground, site.things, parts, velocity, path, speed, wobble, global_from_city, sun)


def _draw_drive(rng, length_m: float) -> tuple[list[Street], list[Street], Path]:
    """Streets along x, streets along y, and `length_m` of the ego's path through them."""
    along_x, along_y = draw_streets(rng, length_m + SIGHT_M + 90)
    path = draw_path(rng, along_x, along_y, length_m + 40)
    # Begin anywhere in the first stretch, so that some scenes start in the middle of a turn.
    start = rng.uniform(0, 40)
    return along_x, along_y, Path(*path.at(start + np.linspace(0, length_m, max(int(length_m / 0.25), 2))))


def _fill_street(rng, ground: Ground, site: Site, clearance, street: Street, crossing, low, high) -> None:
    """Markings, road works and traffic of one street between `low` and `high` on its axis."""
    paint_markings(rng, ground, street, list(junction_gaps(street, crossing, low, high, 1.5)))
    inside = list(junction_gaps(street, crossing, low + 1, high - 1, 6.0))
    # What stands comes before what moves: traffic that finds its way blocked is left out, works are not.
    if inside and rng.random() < 0.3:
        traffic.close_lane(rng, site, street, inside[int(rng.integers(len(inside)))])
    if street.parking_m:
        traffic.park_vehicles(rng, site, street, inside)
    if rng.random() < 0.7:
        traffic.ride(rng, site, street, clearance, low, high, int(rng.integers(1, 4)))
    # There are no traffic lights: streets along x flow, those across wait, and nobody meets at a junction.
    flows = street.axis == 0
    traffic.drive_lanes(rng, site, street, clearance, [(low, high)] if flows else inside, moving=flows)


def _global_from_city(yaw_rad: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """[4, 4] turn of a scene, and the shift that puts it 10 m inside the map; `lower`, `upper` [2] bound the scene."""
    global_from_city = pose_from_angles((0, 0, 0), yaw_rad)
    outline = np.array([(x, y) for x in (lower[0], upper[0]) for y in (lower[1], upper[1])])
    # The map starts at (0, 0) and holds the whole scene.
    global_from_city[:2, 3] = 10 - (outline @ global_from_city[:2, :2].T).min(axis=0)
    return global_from_city


def _raise_skyline(rng, site: Site, lower, upper) -> None:
    """Closes the horizon with buildings and woods beyond everything that labels or LiDAR can reach."""
    # Buildings 19 m wide, 21 m apart, whose near walls stand 4.5 m outside the site: nothing there to collide with.
    for axis in (0, 1):
        for fixed in (lower[1 - axis] - 14, upper[1 - axis] + 14):
            for along in np.arange(lower[axis] - 10, upper[axis] + 10, 21.0):
                x, y = (along, fixed) if axis == 0 else (fixed, along)
                site.things.append(scenery.building(rng, 9.5, 9.5).stand(x, y, 0, 0))
