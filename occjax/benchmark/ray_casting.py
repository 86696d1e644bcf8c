"""Time that RayIoU takes on this machine: python -m occjax.benchmark.ray_casting"""

import time
from functools import partial

import numpy as np

from occjax.benchmark.timing import machine
from occjax.classes import FREE
from occjax.convert.dump.measure import fastest_s
from occjax.grid import OCC3D_GRID
from occjax.metrics.rayiou import MAX_ORIGINS, RayIou
from occjax.system.command_line import Parser, say

_REPEATS = 5


def street(seed: int) -> np.ndarray:
    """A road between walls with boxes on it, uint8 [X, Y, Z]."""
    rng = np.random.default_rng(seed)
    voxels = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    voxels[:, :, 2] = 11
    voxels[:, :40, 2:12] = 15
    voxels[:, 160:, 2:12] = 15
    # Boxes of the size of cars, so that rays end at all distances.
    for x, y in rng.integers([5, 45], [190, 150], (25, 2)):
        voxels[x : x + 10, y : y + 5, 3:7] = 4
    return voxels


def main(arguments: list[str] | None = None) -> None:
    """Times a street and the worst case, two empty volumes that every ray crosses whole."""
    Parser("python -m occjax.benchmark.ray_casting", main.__doc__).parse_args(arguments)
    # As many origins as the protocol takes at most, along the road at the height of nuScenes' LiDAR.
    origins_m = np.stack([np.linspace(-35, 35, MAX_ORIGINS), np.zeros(MAX_ORIGINS), np.full(MAX_ORIGINS, 1.84)], axis=1)
    free = np.full(OCC3D_GRID.shape, FREE, np.uint8)
    scenes = {"street": (street(0), np.roll(street(0), 2, axis=0)), "empty (worst case)": (free, free)}
    say(f"machine: {machine()}")
    say(f"RayIoU of one sample: {MAX_ORIGINS} origins, prediction and truth, one core; seconds, best of {_REPEATS}")
    say(f"{'':20}{'wall clock':>12}{'processor':>12}")
    for scene, (truth, prediction) in scenes.items():
        cast = partial(RayIou.empty().update, prediction, truth, origins_m)
        wall, processor = (fastest_s(cast, _REPEATS, clock) for clock in (time.perf_counter, time.process_time))
        say(f"{scene:20}{wall:12.3f}{processor:12.3f}")


if __name__ == "__main__":
    main()
