"""Puts life on the streets: parked and moving vehicles, riders, pedestrians and road works."""

import numpy as np

from occjax.synthetic import objects
from occjax.synthetic.ground import KERB_M, PAVEMENT, Ground
from occjax.synthetic.objects import Thing
from occjax.synthetic.placement import Site
from occjax.synthetic.shapes import footprint_m
from occjax.synthetic.streets import Street

EGO_HALF_M = np.array([2.3, 0.95])
EGO_CENTER_AHEAD_M = 1.3  # the ego frame sits on the rear axle


def draw_vehicle(rng) -> Thing:
    draw = rng.random()
    for limit, maker in ((0.68, objects.car), (0.8, objects.truck), (0.91, objects.bus), (0.96, objects.trailer)):
        if draw < limit:
            return maker(rng)
    return objects.motorcycle(rng, ridden=True)


def on_street(street: Street, along, across) -> tuple:
    """City-frame point at a distance along a street and to its left, as seen in the direction of growing axis."""
    return (along, street.center_m + across) if street.axis == 0 else (street.center_m - across, along)


def junction_gaps(street: Street, crossing: list[Street], low: float, high: float, margin: float):
    """Stretches (start, end) of a street within [low, high] that keep `margin` metres from every junction."""
    edges = [low]
    for other in sorted(crossing, key=lambda s: s.center_m):
        edges += [other.center_m - other.half_m - margin, other.center_m + other.half_m + margin]
    edges.append(high)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        start, end = max(start, low), min(end, high)
        if end - start > 6:
            yield start, end


def park_vehicles(rng, site: Site, street: Street, stretches) -> None:
    """Lines the parking lanes of a street; the lane's fill differs from street to street."""
    share, across = rng.uniform(0.15, 0.8), street.half_m - 1.15
    for start, end in stretches:
        for side in (1, -1):
            along = start + 3
            while along < end - 3:
                thing = objects.car(rng) if rng.random() < 0.88 else objects.truck(rng)
                half = thing.half_size[0]
                if rng.random() < share:
                    x, y = on_street(street, along + half, side * (across + rng.normal(0, 0.06)))
                    heading = street.axis * np.pi / 2 + (np.pi if side > 0 else 0)
                    site.place(thing, x, y, heading + rng.normal(0, 0.02), z=0)
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
    middle = (inner + street.half_m) / 2
    machine = objects.construction_vehicle(rng)
    site.place(machine, *on_street(street, begin + 9, side * middle), heading, z=0, margin_m=0)


class EgoClearance:
    """Refuses what would come too close to the ego at any time of the scene.

    Args:
      times_s: [T] times to look at.
      positions_m: [T, 2] ego origin, city frame.
      headings_rad: [T].
    """

    def __init__(self, times_s: np.ndarray, positions_m: np.ndarray, headings_rad: np.ndarray):
        self.times_s = times_s
        forward = np.stack([np.cos(headings_rad), np.sin(headings_rad)], axis=-1)
        ahead = np.linspace(-1.5, 1.5, 3)[None, :, None] * forward[:, None]
        self.centers_m = positions_m[:, None] + EGO_CENTER_AHEAD_M * forward[:, None] + ahead

    def allows(self, thing: Thing, gap_m=1.0) -> bool:
        half = thing.half_size
        direction = np.array([np.cos(thing.yaw), np.sin(thing.yaw)])
        position = np.array([thing.x, thing.y]) + thing.speed * self.times_s[:, None] * direction
        relative = self.centers_m - position[:, None]
        along, left = relative @ direction, relative @ np.array([-direction[1], direction[0]])
        outside = np.hypot(np.maximum(np.abs(along) - half[0], 0), np.maximum(np.abs(left) - half[1], 0))
        return bool(np.all(outside > gap_m + EGO_HALF_M[1]))


def drive_lanes(rng, site: Site, street: Street, clearance: EgoClearance, low, high, stretches, *, moving) -> None:
    """Fills the lanes of a street, moving as one column per lane, or waiting between the junctions."""
    duration = float(clearance.times_s[-1])
    for side in (1, -1):
        heading = street.axis * np.pi / 2 + (np.pi if side > 0 else 0)
        for lane in range(street.lanes):
            speed = rng.uniform(3, 11) if moving else 0.0
            spans = [(low, high)] if moving else stretches
            for start, end in spans:
                along = start + rng.uniform(0, 10)
                while along < end - 6:
                    thing = draw_vehicle(rng)
                    half = thing.half_size
                    gap = rng.uniform(6, 34) if moving else rng.uniform(1.5, 22)
                    x, y = on_street(street, along + half[0], side * street.lane_offset_m(lane))
                    along += 2 * half[0] + gap
                    thing.x, thing.y, thing.yaw, thing.speed = x, y, heading, speed
                    travel = speed * duration * np.array([np.cos(heading), np.sin(heading)])
                    swept = footprint_m((x, y) + travel / 2, half[:2] + 0.15 + [speed * duration / 2, 0], heading)
                    if clearance.allows(thing, 1.5) and site.is_free(swept, for_traffic=True):
                        site.things.append(thing)
                        if not moving:
                            site.block(swept)


def walk(rng, site: Site, ground: Ground, clearance: EgoClearance, low, high, count: int) -> None:
    """Scatters pedestrians over the pavements, alone or in small groups, most of them walking along an axis."""
    duration = float(clearance.times_s[-1])
    placed = 0
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
            person.x, person.y = float(x + rng.normal(0, 0.7)), float(y + rng.normal(0, 0.7))
            person.yaw, person.speed, person.z = float(heading), speed, KERB_M
            travel = speed * duration
            middle = np.array([person.x, person.y]) + travel / 2 * np.array([np.cos(heading), np.sin(heading)])
            swept = footprint_m(middle, person.half_size[:2] + 0.1 + [travel / 2, 0], heading)
            # A walker never steps off the pavement.
            if np.any(ground.semantic_at(*swept.T) != PAVEMENT):
                continue
            if site.is_free(swept) and clearance.allows(person):
                site.block(swept)
                site.things.append(person)
                placed += 1


def ride(rng, site: Site, street: Street, clearance: EgoClearance, low, high, count: int) -> None:
    """Cyclists and motorcyclists along the outer edge of the lanes."""
    duration = float(clearance.times_s[-1])
    for _ in range(count):
        side = int(rng.choice((1, -1)))
        thing = (objects.bicycle if rng.random() < 0.7 else objects.motorcycle)(rng, ridden=True)
        across = side * (street.half_m - street.parking_m - 0.45)
        thing.x, thing.y = on_street(street, rng.uniform(low, high), across)
        thing.yaw = street.axis * np.pi / 2 + (np.pi if side > 0 else 0)
        thing.speed = float(rng.uniform(2.5, 5))
        travel = thing.speed * duration
        middle = np.array([thing.x, thing.y]) + travel / 2 * np.array([np.cos(thing.yaw), np.sin(thing.yaw)])
        swept = footprint_m(middle, thing.half_size[:2] + [travel / 2, 0], thing.yaw)
        if site.is_free(swept) and clearance.allows(thing, 0.6):
            site.block(swept)
            site.things.append(thing)
