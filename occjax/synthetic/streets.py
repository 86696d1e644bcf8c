"""Streets: the grid of a scene and the ego's path along it, in the city frame: main street along x, metres."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Street:
    """A straight street across the whole region.

    Attributes:
      axis: 0 if it runs along x, 1 if it runs along y.
      center_m: where its centre line crosses the other axis.
      lanes: lanes per direction.
      lane_m: width of a lane.
      median_m: width of the raised strip in the middle; 0 = none.
      parking_m: width of the parking lane on each side; 0 = none.
    """

    axis: int
    center_m: float
    lanes: int
    lane_m: float
    median_m: float
    parking_m: float

    @property
    def half_m(self) -> float:
        """Half the width between the kerbs."""
        return self.median_m / 2 + self.lanes * self.lane_m + self.parking_m

    def heading_rad(self, side: int) -> float:
        """Where traffic goes, or stands, left (1) or right (-1) of the growing axis: it keeps to the right."""
        return self.axis * np.pi / 2 + (np.pi if side > 0 else 0)

    def lane_offset_m(self, lane: int) -> float:
        """Distance of the centre of a lane (0 = innermost) from the centre line."""
        return self.median_m / 2 + (lane + 0.5) * self.lane_m


def draw_street(rng, axis: int, center_m: float) -> Street:
    """A street along `axis` with lanes, median and parking as the dice fall."""
    lanes = int(rng.choice((1, 1, 2)))
    median = float(rng.uniform(1.5, 3.0)) if lanes == 2 and rng.random() < 0.6 else 0.0
    parking = 2.3 if rng.random() < 0.6 else 0.0
    return Street(axis, center_m, lanes, float(rng.uniform(3.2, 3.8)), median, parking)


def draw_streets(rng, reach_m: float) -> tuple[list[Street], list[Street]]:
    """Streets along x and streets along y that cover [-reach, reach]²; the main street is the one with centre 0."""
    # 42 to 78 m from street to street: less than the grid's 100 m, so that every keyframe sees a junction.
    networks = []
    for axis in (0, 1):
        centers = [0.0 if axis == 0 else float(rng.uniform(-15, 15))]
        while centers[-1] < reach_m:
            centers.append(centers[-1] + float(rng.uniform(42, 78)))
        while centers[0] > -reach_m:
            centers.insert(0, centers[0] - float(rng.uniform(42, 78)))
        networks.append([draw_street(rng, axis, c) for c in centers])
    return networks[0], networks[1]


def on_street(street: Street, along_m: float, across_m: float) -> tuple[float, float]:
    """City-frame point (x, y) `along_m` of a street's axis and `across_m` to its left, as seen towards growing axis."""
    return (along_m, street.center_m + across_m) if street.axis == 0 else (street.center_m - across_m, along_m)


def junction_gaps(
    street: Street, crossing: list[Street], low: float, high: float, margin: float
) -> Iterator[tuple[float, float]]:
    """Stretches (start, end) of a street within low to high that keep `margin` metres from every junction."""
    edges = [low]
    for other in sorted(crossing, key=lambda s: s.center_m):
        edges += [other.center_m - other.half_m - margin, other.center_m + other.half_m + margin]
    edges.append(high)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        start, end = max(start, low), min(end, high)
        if end - start > 6:  # a car and some room
            yield start, end


@dataclasses.dataclass(frozen=True)
class Path:
    """A drivable line, city frame.

    Attributes:
      points_m: float64 [n, 2].
      heading_rad: float64 [n], counter-clockwise from x; grows on through turns, never wrapped.
    """

    points_m: np.ndarray
    heading_rad: np.ndarray

    @functools.cached_property
    def distance_m(self) -> np.ndarray:
        """Distance float64 [n] from the start."""
        return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.points_m, axis=0), axis=1))])

    def at(self, distance_m) -> tuple[np.ndarray, np.ndarray]:
        """Position [..., 2] and heading [...] at distances [...] along the path; beyond an end, those of the end."""
        # Linear in the heading too, which is why it may not be wrapped.
        x, y = (np.interp(distance_m, self.distance_m, self.points_m[:, i]) for i in (0, 1))
        return np.stack([x, y], axis=-1), np.asarray(np.interp(distance_m, self.distance_m, self.heading_rad))


def draw_path(rng, along_x: list[Street], along_y: list[Street], length_m: float) -> Path:
    """Path that starts on the main street heading +x and turns at about half of the crossings.

    Right-hand traffic: the lane lies to the right of the centre line, a right turn is tight, a left turn is wide.
    """
    street = next(s for s in along_x if s.center_m == 0)
    direction = np.array([1.0, 0.0])
    lane = street.lane_offset_m(int(rng.integers(street.lanes)))
    # Near the middle of the region, with up to 55 m to the first junction: a start in the middle of a block as well.
    crossing = min(along_y, key=lambda s: abs(s.center_m))
    position = np.array([crossing.center_m - rng.uniform(8, 55), -lane])
    pieces, headings = [position[None]], [np.zeros(1)]
    travelled, heading = 0.0, 0.0

    def append(points, angles):
        nonlocal travelled, position
        pieces.append(points)
        headings.append(angles)
        travelled += float(np.sum(np.linalg.norm(np.diff(np.concatenate([position[None], points]), axis=0), axis=1)))
        position = points[-1]

    def go_straight_to(place):
        """Goes on along `axis` as far as `place`."""
        end = position.copy()
        end[axis] = place
        steps = max(int(np.linalg.norm(end - position) / 0.5), 2)
        append(np.linspace(position, end, steps)[1:], np.full(steps - 1, heading))

    while travelled < length_m:
        axis = int(np.argmax(np.abs(direction)))
        # 14 m before the kerb are the room of the widest turn, 11 m, and of some metres straight to reach it.
        ahead = [s for s in (along_y, along_x)[axis] if (s.center_m - position[axis]) * direction[axis] > s.half_m + 14]
        cross = min(ahead, key=lambda s: abs(s.center_m - position[axis])) if ahead else None
        turn = int(rng.choice((0, 0, 1, -1))) if cross and travelled < 0.7 * length_m else 0  # 1 left, -1 right
        if cross is None or turn == 0:
            # Past the far kerb, so that the same junction is not met again.
            begin, distance = (cross.center_m, cross.half_m + 1) if cross else (position[axis], 80.0)
            go_straight_to(begin + direction[axis] * distance)
            continue
        outgoing = np.array([-direction[1], direction[0]]) * turn
        offset = cross.lane_offset_m(int(rng.integers(cross.lanes)))
        # The lane lies to the right of the new heading: right of `outgoing` is `direction` for a left turn.
        lane_center = cross.center_m + offset * turn * direction[axis]
        radius = rng.uniform(5.5, 7.5) if turn == -1 else rng.uniform(8.0, 11.0)
        go_straight_to(lane_center - direction[axis] * radius)
        angle = np.linspace(0, np.pi / 2, 24)[1:, None]
        arc = position + radius * (np.sin(angle) * direction + (1 - np.cos(angle)) * outgoing)
        append(arc, heading + turn * angle[:, 0])
        direction, heading = outgoing, heading + turn * np.pi / 2
    path = Path(np.concatenate(pieces), np.concatenate(headings))
    # A straight of no length repeats a point; interpolation wants distances that grow.
    keep = np.concatenate([[True], np.diff(path.distance_m) > 1e-6])
    return Path(path.points_m[keep], path.heading_rad[keep])
