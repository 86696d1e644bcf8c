"""Traffic, the life on the streets: parked and moving vehicles, riders, pedestrians and road works."""

import numpy as np

from occjax.synthetic import objects
from occjax.synthetic.ground import KERB_M, PAVEMENT, Ground
from occjax.synthetic.objects import Thing
from occjax.synthetic.placement import Site
from occjax.synthetic.shapes import heading_vector
from occjax.synthetic.streets import Street, on_street

EGO_HALF_WIDTH_M = 0.95
EGO_CENTER_AHEAD_M = 1.3  # the ego frame sits on the rear axle


def draw_vehicle(rng) -> Thing:
    """A vehicle for a lane, a car in two of three cases; others more often than in traffic, so that they are seen."""
    shares = ((0.68, objects.car), (0.8, objects.truck), (0.91, objects.bus), (0.96, objects.trailer))
    maker = objects.maker_by_share(rng, *shares)
    return maker(rng) if maker else objects.motorcycle(rng, ridden=True)


def park_vehicles(rng, site: Site, street: Street, stretches) -> None:
    """Lines the parking lanes of a street; the lane's fill differs from street to street."""
    # 1.15 m: the middle of a parking lane of 2.3 m.
    share, across = rng.uniform(0.15, 0.8), street.half_m - 1.15
    for start, end in stretches:
        for side in (1, -1):
            along = start + 3
            while along < end - 3:
                # Drawn also where the place stays empty: the gap is as long as what might have stood there.
                thing = objects.car(rng) if rng.random() < 0.88 else objects.truck(rng)
                half = thing.half_size[0]
                if rng.random() < share:
                    place = on_street(street, along + half, side * (across + rng.normal(0, 0.06)))
                    site.place(thing, *place, street.heading_rad(side) + rng.normal(0, 0.02), z=0)
                along += 2 * half + rng.uniform(0.7, 1.8)


def close_lane(rng, site: Site, street: Street, stretch) -> None:
    """Road works in the outer lane: cones along it, barriers at its head, a machine inside."""
    start, end = stretch
    begin = rng.uniform(start, max(end - 20, start + 1))
    side = int(rng.choice((1, -1)))
    inner = street.median_m / 2 + (street.lanes - 1) * street.lane_m + 0.3
    heading = street.axis * np.pi / 2
    for along in np.arange(begin, begin + 18, 2.2):
        site.place(objects.traffic_cone(rng), *on_street(street, along, side * inner), 0, z=0)
    for across in np.arange(inner + 1.0, street.half_m, 2.1):
        for along in (begin - 1.5, begin + 19):
            site.place(objects.barrier(rng), *on_street(street, along, side * across), heading, z=0, margin_m=0.02)
    place = on_street(street, begin + 9, side * (inner + street.half_m) / 2)
    site.place(objects.construction_vehicle(rng), *place, heading, z=0, margin_m=0)


class EgoClearance:
    """Refuses what would come too close to the ego at any time of the scene.

    Args:
      times_s: [T] times to look at, from 0 to the end of the scene.
      positions_m: [T, 2] ego origin, city frame.
      headings_rad: [T].
    """

    def __init__(self, times_s: np.ndarray, positions_m: np.ndarray, headings_rad: np.ndarray):
        self.times_s = times_s
        forward = heading_vector(headings_rad)
        # Three circles of the car's half width along its length: the distance to a centre is all there is to know, and
        # what they leave out of its outline, up to 0.4 m, is less than any `gap_m`.
        ahead = np.linspace(-1.5, 1.5, 3)[None, :, None] * forward[:, None]
        self.centers_m = positions_m[:, None] + EGO_CENTER_AHEAD_M * forward[:, None] + ahead

    def allows(self, thing: Thing, gap_m: float = 1.0) -> bool:
        """Whether a thing, going straight at its own speed, always stays more than `gap_m` metres from the ego."""
        # In the thing's own frame, where its box is aligned with the axes.
        half, direction = thing.half_size, heading_vector(thing.yaw)
        relative = self.centers_m - thing.position_at(self.times_s)[:, None]
        along, left = relative @ direction, relative @ np.array([-direction[1], direction[0]])
        outside = np.hypot(np.maximum(np.abs(along) - half[0], 0), np.maximum(np.abs(left) - half[1], 0))
        return bool(np.all(outside > gap_m + EGO_HALF_WIDTH_M))


def drive_lanes(rng, site: Site, street: Street, clearance: EgoClearance, stretches, *, moving) -> None:
    """Fills the lanes of a street with what moves, at one speed per lane, or waits.

    Args:
      stretches: (start, end) to fill, metres along the axis.
    """
    # One speed per lane: nobody catches up, so a column needs no check against itself.
    for side in (1, -1):
        for lane in range(street.lanes):
            speed = rng.uniform(3, 11) if moving else 0.0
            for start, end in stretches:
                along = start + rng.uniform(0, 10)
                while along < end - 6:
                    thing = draw_vehicle(rng)
                    half = thing.half_size[0]
                    x, y = on_street(street, along + half, side * street.lane_offset_m(lane))
                    along += 2 * half + (rng.uniform(6, 34) if moving else rng.uniform(1.5, 22))
                    thing.stand(x, y, 0, street.heading_rad(side), speed)
                    # Everything between start and end of the travel has to be free; what moves does not block it,
                    # for the column behind drives over the same road later.
                    swept = thing.swept_m(clearance.times_s[-1], 0.15)
                    if clearance.allows(thing, 1.5) and site.is_free(swept, for_traffic=True):
                        site.things.append(thing)
                        if not moving:
                            site.block(swept)


def walk(rng, site: Site, ground: Ground, clearance: EgoClearance, low, high, count: int) -> None:
    """Scatters `count` pedestrians over the pavements, alone or in small groups, most of them walking along an axis.

    Args:
      low, high: [2] corners of the region, city frame, metres.
      count: a group may exceed it; fewer where the pavements are full.
    """
    placed = 0
    # Most points of a region are no pavement, hence many tries; full pavements must not hold the scene up, hence 12.
    for _ in range(count * 12):
        if placed >= count:
            return
        x, y = rng.uniform(low, high)
        if ground.semantic_at(np.array([x]), np.array([y]))[0] != PAVEMENT:
            continue
        heading = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.05)
        for _ in range(int(rng.choice((1, 1, 2, 3)))):
            person = objects.pedestrian(rng)
            speed = rng.uniform(0.7, 1.7) if rng.random() < 0.75 else 0.0
            person.stand(x + rng.normal(0, 0.7), y + rng.normal(0, 0.7), KERB_M, heading, speed)
            swept = person.swept_m(clearance.times_s[-1], 0.1)
            # A walker never steps off the pavement, and has the whole way to itself: two never have to be compared in
            # time.
            on_pavement = np.all(ground.semantic_at(*swept.T) == PAVEMENT)
            if on_pavement and site.is_free(swept) and clearance.allows(person):
                site.add(person, swept)
                placed += 1


def ride(rng, site: Site, street: Street, clearance: EgoClearance, low, high, count: int) -> None:
    """Up to `count` cyclists and motorcyclists along the outer edge of the lanes, from `low` to `high` on the axis."""
    for _ in range(count):
        side = int(rng.choice((1, -1)))
        thing = (objects.bicycle if rng.random() < 0.7 else objects.motorcycle)(rng, ridden=True)
        across = side * (street.half_m - street.parking_m - 0.45)
        x, y = on_street(street, rng.uniform(low, high), across)
        thing.stand(x, y, 0, street.heading_rad(side), rng.uniform(2.5, 5))
        swept = thing.swept_m(clearance.times_s[-1])
        if site.is_free(swept) and clearance.allows(thing, 0.6):
            site.add(thing, swept)
