"""Ray casting of a bundle, laid out as an image, against parts and ground: the one geometry behind every sensor."""

import dataclasses

import numpy as np

from occjax.synthetic.ground import KERB_M, ROAD, Ground
from occjax.synthetic.shapes import EDGES, ELLIPSOID, Parts, corners_m, face_planes

# Values of Hits.part besides the index of a part; negative, so that `part >= 0` asks for parts.
SKY, GROUND, KERB = -3, -1, -2
FAR_M = 1000.0


@dataclasses.dataclass
class Hits:
    """The first surface along each ray of an [H, W] bundle.

    Attributes:
      distance: float32 [H, W] in units of the direction's length; FAR_M where there is nothing.
      part: int32 [H, W] index into the parts, or SKY, GROUND, KERB.
      face: uint8 [H, W] face of the part, in the order of `face_planes`; 6 for an ellipsoid.
    """

    distance: np.ndarray
    part: np.ndarray
    face: np.ndarray


def camera_windows(
    parts: Parts, cam_from_city: np.ndarray, pixel_from_cam: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel rectangles [P, 4] (row0, row1, column0, column1) that contain each part, and its least depth [P].

    Rectangles of parts that cannot be seen have row0 >= row1.

    Args:
      cam_from_city: [4, 4].
      pixel_from_cam: [3, 3] intrinsics of an image of `height` x `width` pixels.
    """
    near = 0.05
    # What reaches behind the camera is cut there: its outline is that of the corners ahead and of the cut edges.
    points = corners_m(parts) @ cam_from_city[:3, :3].T + cam_from_city[:3, 3]
    start, end = points[:, EDGES[:, 0]], points[:, EDGES[:, 1]]
    span = end[..., 2] - start[..., 2]
    share = np.clip((near - start[..., 2]) / np.where(np.abs(span) < 1e-9, 1e-9, span), 0, 1)
    cut = start + share[..., None] * (end - start)
    points = np.concatenate([points, cut], axis=1)
    seen = points[..., 2] > near - 1e-6
    depth = np.maximum(points[..., 2], near)
    column = pixel_from_cam[0, 0] * points[..., 0] / depth + pixel_from_cam[0, 2]
    row = pixel_from_cam[1, 1] * points[..., 1] / depth + pixel_from_cam[1, 2]

    # A pixel more on each side: the casting decides what is hit, a window may only not be too small.
    def bounds(value, limit):
        low = np.clip(np.floor(np.min(np.where(seen, value, 1e9), axis=1)) - 1, 0, limit)
        high = np.clip(np.ceil(np.max(np.where(seen, value, -1e9), axis=1)) + 1, 0, limit)
        return low.astype(int), high.astype(int)

    row0, row1 = bounds(row, height)
    column0, column1 = bounds(column, width)
    row1[(~seen.any(axis=1)) | (column0 >= column1)] = 0
    return np.stack([row0, row1, column0, column1], axis=1), np.maximum(points[:, :8, 2].min(axis=1), 0)


def hit_frustum(normals, offsets, origin, directions) -> tuple[np.ndarray, np.ndarray]:
    """Distance [h, w] at which rays enter a frustum (inf = miss or from inside) and the face [h, w] they enter by.

    Args:
      normals, offsets: [6, 3] and [6] of its faces.
      origin: [3] of the rays, in the frame of the part.
      directions: three float32 [h, w], in the frame of the part.

    Rays parallel to a face divide by zero, which enters never, or at once where they run outside; the caller silences
    numpy about it.
    """
    enter = np.full(directions[0].shape, -np.inf, np.float32)
    leave = np.full(directions[0].shape, np.inf, np.float32)
    face = np.zeros(directions[0].shape, np.uint8)
    for axis in range(3):
        if normals[2 * axis, 2] != 0 and axis < 2:  # tapered: the two faces are not parallel
            for f in (2 * axis, 2 * axis + 1):
                rate = np.float32(normals[f, axis]) * directions[axis] + np.float32(normals[f, 2]) * directions[2]
                distance = np.float32(offsets[f] - normals[f] @ origin) / rate
                entering = rate < 0
                later = entering & (distance > enter)
                np.copyto(enter, distance, where=later)
                face[later] = f
                np.copyto(leave, distance, where=~entering & (distance < leave))
            continue
        # Parallel faces share one division: the slab between them.
        inverse = 1 / directions[axis]
        middle = np.float32(-origin[axis]) * inverse
        reach = np.float32(offsets[2 * axis]) * np.abs(inverse)
        near = middle - reach
        later = near > enter
        np.copyto(enter, near, where=later)
        np.copyto(face, np.where(inverse > 0, np.uint8(2 * axis + 1), np.uint8(2 * axis)), where=later)
        np.minimum(leave, middle + reach, out=leave)
    # 2 cm, and what is behind: a sensor that stands in a part looks out of it.
    enter[(enter > leave) | (enter <= 0.02)] = np.inf
    return enter, face


def hit_ellipsoid(half, origin, directions) -> np.ndarray:
    """Distance [h, w] at which rays enter an ellipsoid (inf = miss or from inside).

    Args:
      half: [3] semi-axes.
      origin, directions: as for `hit_frustum`.
    """
    # Divided by the semi-axes it is the unit sphere, and distances along the ray stay what they are.
    o = origin / half
    dx, dy, dz = (d * np.float32(1 / h) for d, h in zip(directions, half, strict=True))
    a = dx * dx + dy * dy + dz * dz
    b = np.float32(o[0]) * dx + np.float32(o[1]) * dy + np.float32(o[2]) * dz
    root = b * b - a * np.float32(o @ o - 1)
    distance = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root >= 0) & (distance > 0.02), distance, np.inf)


def cast_parts(parts: Parts, windows, nearest, origin: np.ndarray, directions: np.ndarray, hits: Hits) -> None:
    """Lets every part compete for the rays in its window; `hits` is updated in place.

    Goes from near to far and skips a part where everything in its window is already hit before the part begins.

    Args:
      windows: int [P, 4] (row0, row1, column0, column1), inside the bundle; empty ones are skipped.
      nearest: [P] no ray hits the part at a smaller distance.
      origin: [3] city frame, metres.
      directions: float32 [3, H, W] city frame.
    """
    normals, offsets = face_planes(parts)
    candidates = np.flatnonzero((windows[:, 0] < windows[:, 1]) & (windows[:, 2] < windows[:, 3]))
    for i in candidates[np.argsort(nearest[candidates], kind="stable")]:
        row0, row1, column0, column1 = windows[i]
        rows, columns = slice(row0, row1), slice(column0, column1)
        # Worth the sorting: most parts of a street stand behind its first row.
        if nearest[i] >= hits.distance[rows, columns].max():
            continue
        cos, sin = np.cos(parts.yaw_rad[i]), np.sin(parts.yaw_rad[i])
        offset = origin - parts.center_m[i]
        local_origin = np.array([cos * offset[0] + sin * offset[1], -sin * offset[0] + cos * offset[1], offset[2]])
        dx, dy, dz = directions[:, rows, columns]
        c, s = np.float32(cos), np.float32(sin)
        local = (c * dx + s * dy, c * dy - s * dx, dz)
        if parts.kind[i] == ELLIPSOID:
            distance, face = hit_ellipsoid(parts.half_m[i], local_origin, local), 6
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                distance, face = hit_frustum(normals[i], offsets[i], local_origin, local)
        nearer = distance < hits.distance[rows, columns]
        if nearer.any():
            np.copyto(hits.distance[rows, columns], distance, where=nearer, casting="same_kind")
            np.copyto(hits.part[rows, columns], i, where=nearer)
            np.copyto(hits.face[rows, columns], face, where=nearer, casting="unsafe")


def cast_ground(ground: Ground, origin: np.ndarray, directions: np.ndarray) -> Hits:
    """Hits of the ground alone: the carriageway at height 0, all else at KERB_M, kerb faces between.

    Args:
      origin: [3] city frame, metres, above the ground.
      directions: float32 [3, H, W] city frame.
    """
    # Two planes and the class where a ray meets each tell all: not road at kerb height, it ends there; else road at
    # height 0, it ends there; else it fell over the road and came out below the pavement, so a kerb stands between.
    dx, dy, dz = directions
    down = dz < -1e-6
    safe = np.where(down, dz, np.float32(-1))
    high = np.where(down, np.float32(KERB_M - origin[2]) / safe, np.float32(FAR_M))
    low = np.where(down, np.float32(-origin[2]) / safe, np.float32(FAR_M))
    ox, oy = np.float32(origin[0]), np.float32(origin[1])
    raised = ground.semantic_at(ox + high * dx, oy + high * dy) != ROAD
    kerb = ~raised & (ground.semantic_at(ox + low * dx, oy + low * dy) != ROAD)
    distance = np.where(raised, high, low)
    if kerb.any():
        distance[kerb] = _kerb_distance(ground, origin, directions[:, kerb], high[kerb], low[kerb])
    seen = down & (distance < FAR_M)
    part = np.where(seen, np.where(kerb, KERB, GROUND), SKY).astype(np.int32)
    return Hits(np.where(seen, distance, np.float32(FAR_M)), part, np.full(dz.shape, 4, np.uint8))


def _kerb_distance(ground: Ground, origin, directions, over_road, behind_kerb):
    """Distance [n] at which rays that drop below kerb height over the road meet the kerb, by bisection."""
    # Seven halvings leave 1/128 of what lies between the two planes; rasters of 0.1 m know the kerb no better.
    for _ in range(7):
        middle = (over_road + behind_kerb) / 2
        x, y = (np.float32(origin[i]) + middle * directions[i] for i in (0, 1))
        on_road = ground.semantic_at(x, y) == ROAD
        over_road, behind_kerb = np.where(on_road, middle, over_road), np.where(on_road, behind_kerb, middle)
    return behind_kerb
