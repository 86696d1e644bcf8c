"""The scenes of the RayIoU goldens, and one origin as on a nuScenes car."""

import numpy as np

from occjax.classes import FREE
from occjax.grid import OCC3D_GRID

ORIGIN = np.array([[0.985793, 0.0, 1.84019]])


def free() -> np.ndarray:
    return np.full(OCC3D_GRID.shape, FREE, np.uint8)


def golden_scene(name: str, origin: np.ndarray | None = None) -> np.ndarray:
    """Scene of a casting golden by its name; `origin` [3] is needed for the one that fills the origin's voxel."""
    scene = free()
    if name == "ground_z0":
        scene[:, :, 0] = 11
    elif name == "wall_ix130":
        scene[130] = 15
    elif name == "origin_voxel_occupied":
        scene[tuple(OCC3D_GRID.indices_from_points(origin[None])[0][0])] = 4
    elif name.startswith("random"):
        rng = np.random.default_rng(0)
        chosen = rng.random(scene.shape) < 0.02
        scene[chosen] = rng.integers(0, 17, scene.shape)[chosen]
    return scene


def street(shift: int = 0) -> np.ndarray:
    """Ground, a wall ahead and a car on the right, moved `shift` voxels along x as `numpy.roll` does.

    The goldens name the classes only; car and wall stand where all of their nine ratios are met to the last digit.
    """
    scene = free()
    scene[:, :, 0] = 11
    scene[130] = 15
    scene[100:112, 60:66, 1:5] = 4
    return np.roll(scene, shift, axis=0)
