"""Rendering of pictures: what each pixel sees, its paint, light, shadow and haze."""

import cv2
import numpy as np

from occjax.geometry import invert_rigid
from occjax.synthetic.city import City
from occjax.synthetic.ground import TEXEL_M, Ground
from occjax.synthetic.light import SHADOW_CELL_M, Sky, cast_shadows
from occjax.synthetic.materials import MATERIAL, PAINTERS, Surface
from occjax.synthetic.raycast import KERB, SKY, Hits, camera_windows, cast_ground, cast_parts
from occjax.synthetic.shapes import Parts, face_planes

HAZE_M = 260.0  # after this distance 1/e of a surface's own colour is left, the rest is the horizon's
SHADOW_REACH_M = 60.0  # movers farther away throw no shadow: it would be a pixel or two high in the picture
# A display's gamma lifts the shadows a little; a table, for powers of every pixel are slow.
TONES = (255 * (np.arange(1024) / 1023) ** 0.88).astype(np.uint8)


def camera_rays(pixel_from_cam: np.ndarray, city_from_cam: np.ndarray, width: int, height: int) -> np.ndarray:
    """Directions float32 [3, H, W], city frame, through the pixel centres, of length 1 along the optical axis.

    Args:
      pixel_from_cam: [3, 3].
      city_from_cam: [4, 4].
    """
    # So the distance at which a ray hits is the depth that projection gives; a unit ray would need a division.
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = (u - pixel_from_cam[0, 2]) / pixel_from_cam[0, 0]
    y = (v - pixel_from_cam[1, 2]) / pixel_from_cam[1, 1]
    rotation = city_from_cam[:3, :3]
    return np.stack([rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2] for i in range(3)]).astype(np.float32)


def see(
    parts: Parts, ground: Ground, city_from_cam, pixel_from_cam, width: int, height: int
) -> tuple[Hits, np.ndarray]:
    """What a camera sees: hits whose distance is the depth along the optical axis, and the rays [3, H, W].

    Args:
      city_from_cam: [4, 4].
      pixel_from_cam: [3, 3] intrinsics of an image of `width` x `height` pixels.
    """
    rays = camera_rays(pixel_from_cam, city_from_cam, width, height)
    origin = city_from_cam[:3, 3]
    hits = cast_ground(ground, origin, rays)
    windows, nearest = camera_windows(parts, invert_rigid(city_from_cam), pixel_from_cam, height, width)
    cast_parts(parts, windows, nearest, origin, rays, hits)
    return hits, rays


class Painter:
    """Paints what cameras see in one scene; shadows of standing things are thrown once.

    Args:
      rng: generator of the scene; sky, exposure and white balance are drawn once.
      city: the scene.
    """

    def __init__(self, rng, city: City):
        self.city = city
        self.sky = Sky(rng, city.sun)
        self.moves = np.linalg.norm(city.part_velocity_mps, axis=1) > 0
        self.still_light = cast_shadows(city.parts.take(~self.moves), city.sun, city.ground)
        # The ground at 0.1, 0.4 and 1.6 m per texel: fine texture far away would flicker.
        self.mips = [city.ground.color]
        for _ in range(2):
            height, width = self.mips[-1].shape[:2]
            self.mips.append(cv2.resize(self.mips[-1], (width // 4, height // 4), interpolation=cv2.INTER_AREA))
        self.exposure = float(rng.uniform(0.9, 1.1))
        self.warmth = np.array([1 + rng.uniform(-0.03, 0.05), 1.0, 1 - rng.uniform(-0.04, 0.05)], np.float32)

    def paint(self, rng, parts: Parts, hits: Hits, rays: np.ndarray, origin: np.ndarray, focal_px: float) -> np.ndarray:
        """RGB uint8 [H, W, 3] of what `see` returned for `parts`.

        Args:
          rng: generator of the sensor's noise.
          rays: float32 [3, H, W] city frame.
          origin: [3] of the camera, city frame.
          focal_px: focal length.
        """
        length = np.sqrt(np.sum(rays * rays, axis=0))
        moving = self.moves & (np.linalg.norm(parts.center_m - origin, axis=1) < SHADOW_REACH_M)
        light = cast_shadows(parts.take(moving), self.city.sun, self.city.ground, self.still_light)
        position = [np.float32(origin[i]) + hits.distance * rays[i] for i in range(3)]
        color = self._ground(hits, position, light, rays[2] / length, focal_px)
        in_sky = hits.part == SKY
        if in_sky.any():
            # Sky is the upper part of a picture: what lies below its last row needs no colour of it.
            rows = slice(0, int(np.flatnonzero(in_sky.any(axis=1))[-1]) + 1)
            sky = self.sky.color(rays[:, rows] / length[rows])
            np.copyto(color[rows], sky, where=in_sky[rows, :, None])
        on_part = hits.part >= 0
        color[on_part] = self._parts(parts, hits, on_part, position, focal_px)
        haze = np.where(in_sky, 0, 1 - np.exp(-hits.distance * length / HAZE_M))[..., None]
        color += (self.sky.horizon.astype(np.float32) - color) * haze
        color = color * self.warmth * self.exposure
        color += (0.008 * rng.standard_normal(color.shape[:2], np.float32))[..., None]
        return TONES[(1023 * np.clip(color, 0, 1)).astype(np.uint16)]

    def _sample(self, image, position, cell_m, border):
        """Raster [rows, columns, ...] of `cell_m` metres at city points, three [H, W]; `border` outside."""
        lower = self.city.ground.lower_m
        column, row = ((position[a] - np.float32(lower[a])) / np.float32(cell_m) - np.float32(0.5) for a in (0, 1))
        limit = np.float32(30000)  # OpenCV maps hold 16-bit integers
        column, row = np.clip(column, -9, limit), np.clip(row, -9, limit)
        return cv2.remap(image, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)

    def _ground(self, hits, position, light, downward, focal_px):
        """RGB float32 [H, W, 3] of every pixel as if it saw the ground."""
        # Length of a pixel on the ground, away from the viewer.
        footprint = hits.distance / np.float32(focal_px) / np.clip(-downward, 0.01, 1)
        grass = (75, 95, 50)
        layers = [self._sample(m, position, TEXEL_M * 4**i, grass).astype(np.float32) for i, m in enumerate(self.mips)]
        # Less 0.4 of a level: pixels are long but narrow on the ground, and by length alone it would blur too much.
        level = np.clip(np.log2(np.maximum(footprint, 1e-3) / TEXEL_M) / 2 - 0.4, 0, 1.999)[..., None]
        color = layers[0]
        for i in (0, 1):  # first all the way to the next coarser layer, then on from there
            color = color + (layers[i + 1] - layers[i]) * np.clip(level - i, 0, 1)
        sun = self._sample(light, position, SHADOW_CELL_M, 255).astype(np.float32)[..., None] / 255
        color = color / 255 * (0.42 + 0.78 * sun * self.city.sun[2] ** 0.5)
        color[hits.part == KERB] *= 0.75  # upright, so it gets less of the sky
        return color

    def _parts(self, parts, hits, mask, position, focal_px):
        """RGB float32 [n, 3] of the pixels of `mask`, bool [H, W], all of which see parts."""
        index, face, distance = hits.part[mask], hits.face[mask], hits.distance[mask]
        position = np.stack([p[mask] for p in position])
        cos, sin = (f(parts.yaw_rad).astype(np.float32)[index] for f in (np.cos, np.sin))
        center, half = parts.center_m.astype(np.float32)[index], parts.half_m.astype(np.float32)[index].T
        dx, dy, dz = (p - center[:, i] for i, p in enumerate(position))
        local = np.stack([cos * dx + sin * dy, cos * dy - sin * dx, dz])
        # Ellipsoids have face 6, whose normal comes from the gradient of their equation.
        planes = np.concatenate([face_planes(parts)[0], np.zeros((len(parts), 1, 3))], axis=1).astype(np.float32)
        normal = planes[index, face].T
        round_ = face == 6
        curved = local[:, round_] / half[:, round_] ** 2
        normal[:, round_] = curved / np.linalg.norm(curved, axis=0)
        normal = np.stack([cos * normal[0] - sin * normal[1], sin * normal[0] + cos * normal[1], normal[2]])

        surface = Surface(
            position=position,
            local=local,
            half=half,
            along=np.where(face < 2, local[1], local[0]),
            face=face,
            owner=parts.owner[index],
            color=parts.color[index],
            footprint_m=distance / np.float32(focal_px),
        )
        color = surface.color.copy()
        material = parts.material[index]
        for name, painter in PAINTERS.items():
            chosen = material == MATERIAL[name]
            if chosen.any():
                color[chosen] = painter(surface.take(chosen))
        facing = np.clip(self.city.sun.astype(np.float32) @ normal, 0, 1)
        # Leaves let light through, so their shaded side is never dark.
        facing = np.where(material == MATERIAL["foliage"], 0.25 + 0.75 * facing, facing)
        # Less sky reaches what is close to the ground: things stand on it instead of floating.
        grounded = np.clip(0.55 + 0.45 * position[2] / 0.6, 0.55, 1)
        ambient = (0.36 + 0.16 * normal[2]) * np.where(position[2] < 0.6, grounded, 1)
        shine = np.clip(normal[2], 0, 1) * np.isin(material, (MATERIAL["body"], MATERIAL["cabin"], MATERIAL["bus"]))
        return color * (ambient + 0.85 * facing)[:, None] + 0.1 * shine[:, None]
