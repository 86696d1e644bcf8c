"""Time that RayIoU takes on this machine: python -m occjax.benchmark.ray_casting"""

import argparse
import sys
import time

import numpy as np

from occjax.benchmark.timing import machine
from occjax.classes import FREE
from occjax.grid import OCC3D_GRID
from occjax.metrics.rayiou import MAX_ORIGINS, RayIou

_REPEATS = 5


def street(seed: int) -> np.ndarray:
    """A road between walls with boxes on it, uint8 [X, Y, Z]."""
    rng = np.random.default_rng(seed)
    voxels = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    voxels[:, :, 2] = 11
    voxels[:, :40, 2:12] = 15
    voxels[:, 160:, 2:12] = 15
    for x, y in rng.integers([5, 45], [190, 150], (25, 2)):
        voxels[x : x + 10, y : y + 5, 3:7] = 4
    return voxels


def main() -> None:
    """Times a street and the worst case, two empty volumes that every ray crosses whole."""
    argparse.ArgumentParser(prog="python -m occjax.benchmark.ray_casting", description=main.__doc__).parse_args()
    origins_m = np.stack([np.linspace(-35, 35, MAX_ORIGINS), np.zeros(MAX_ORIGINS), np.full(MAX_ORIGINS, 1.84)], axis=1)
    free = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    scenes = {"street": (street(0), np.roll(street(0), 2, axis=0)), "empty (worst case)": (free, free)}
    out = sys.stdout.write
    out(f"machine: {machine()}\n")
    out(f"RayIoU of one sample: {MAX_ORIGINS} origins, prediction and truth, one core; seconds, best of {_REPEATS}\n")
    out(f"{'':20}{'wall clock':>12}{'processor':>12}\n")
    for scene, (truth, prediction) in scenes.items():
        wall, processor = [], []
        for _ in range(_REPEATS):
            start = time.perf_counter(), time.process_time()
            RayIou.empty().update(prediction, truth, origins_m)
            wall.append(time.perf_counter() - start[0])
            processor.append(time.process_time() - start[1])
        out(f"{scene:20}{min(wall):12.3f}{min(processor):12.3f}\n")


if __name__ == "__main__":
    main()
