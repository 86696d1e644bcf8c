"""Light of a scene: sun, shadows and sky."""

import cv2
import numpy as np

from occjax.synthetic.ground import TEXEL_M, Ground, smooth_noise
from occjax.synthetic.shapes import ELLIPSOID, Parts, corners_m

SHADOW_CELL_M = 0.2  # twice the ground's cells: shadows have soft edges, and there are many to draw in every picture
# 26 directions; the convex hull of so many points on a ball throws a shadow that looks round.
_SPHERE = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if x or y or z], float)
_SPHERE /= np.linalg.norm(_SPHERE, axis=1, keepdims=True)


def cast_shadows(parts: Parts, sun: np.ndarray, ground: Ground, onto: np.ndarray | None = None) -> np.ndarray:
    """Light [rows, columns] on the ground, uint8, 255 = sun: every part throws its outline along the sun.

    Args:
      sun: [3] unit vector to the sun, city frame, above the horizon.
      onto: shadows already there (of what does not move), or None for an empty ground.
    """
    rows, columns = (int(n * TEXEL_M / SHADOW_CELL_M) for n in ground.semantic.shape)
    light = np.full((rows, columns), 255, np.uint8) if onto is None else onto.copy()
    points = corners_m(parts)
    for i in range(len(parts)):
        solid = points[i]
        if parts.kind[i] == ELLIPSOID:
            solid = parts.center_m[i] + _SPHERE * parts.half_m[i].max()
        # Where the line from the sun through a point meets height 0. Half a cell less, in sixteenths.
        flat = solid[:, :2] - solid[:, 2:] * sun[:2] / sun[2]
        cells = np.round((flat - ground.lower_m) / SHADOW_CELL_M * 16 - 8).astype(np.int32)
        # Painted over, not multiplied: a shadow within a shadow is no darker. The sky lights it to 90 of 255.
        cv2.fillConvexPoly(light, cv2.convexHull(cells), (90,), shift=4)
    return light


class Sky:
    """Colour of the sky by direction: gradient, clouds and the sun's glow.

    Args:
      rng: generator of the scene.
      sun: [3] unit vector to the sun, city frame.
    """

    def __init__(self, rng, sun: np.ndarray):
        self.sun = sun
        # Clear, hazy or overcast.
        base = np.array([(0.33, 0.52, 0.82), (0.45, 0.58, 0.75), (0.62, 0.66, 0.71)])[int(rng.integers(3))]
        self.zenith = base * rng.uniform(0.85, 1.1)
        self.horizon = 0.35 * base + 0.62 * np.array([0.95, 0.96, 0.98])
        octaves = ((90, 1.0), (36, 0.5), (12, 0.22))
        noise = sum(smooth_noise(rng, (512, 512), cells) * weight for cells, weight in octaves)
        self.clouds = np.clip((noise - rng.uniform(-0.2, 0.9)) * 0.8, 0, 1).astype(np.float32)

    def color(self, directions: np.ndarray) -> np.ndarray:
        """RGB float32 [H, W, 3], above 1 in the glow of the sun, for unit directions [3, H, W], city frame."""
        dx, dy, dz = directions
        rise = np.clip(dz, 0.0, 1)
        blend = (1 - (1 - rise) ** 3)[..., None]
        color = self.horizon * (1 - blend) + self.zenith * blend
        # Clouds lie on a plane overhead; 0.12 keeps the horizon of that plane at a finite distance.
        scale = 110 / (rise + 0.12)
        clouds = cv2.remap(
            self.clouds, (dx * scale + 256).astype(np.float32), (dy * scale + 256).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip
        # Towards the horizon the pattern would be finer than pixels.
        cover = (clouds * np.clip(rise * 8, 0, 1))[..., None]
        color = color * (1 - cover) + cover * 0.93
        toward = np.clip(dx * self.sun[0] + dy * self.sun[1] + dz * self.sun[2], 0, 1)
        # A wide glow, and the disc: half as bright 2 degrees from its middle.
        return (color + (0.35 * toward**40 + 1.5 * toward**1200)[..., None]).astype(np.float32)
