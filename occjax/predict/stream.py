"""Stream of frames: while one is computed, the next are read, decoded and brought to the device."""

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from occjax.predict.frames import frames_of_folder
from occjax.predict.images import Images, NetworkInput
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import Rig
from occjax.system.ahead import ahead
from occjax.system.command_line import say

# Frames that are being read, and frames that wait for the device, which holds their images.
_READ_AHEAD, _COMPUTE_AHEAD = 2, 1
_PERCENTILES = (50, 90, 99)


@runtime_checkable
class FramePredictor(Protocol):
    """What a stream needs of a predictor, in two halves: host, then device."""

    def prepare(self, images: Images, rig: Rig) -> NetworkInput:
        """The network's input of one frame."""
        ...

    def predict(self, frame: NetworkInput) -> Occupancy:
        """Its occupancy."""
        ...


class Stream:
    """Iterator over the occupancies of frames; see `Predictor.stream`."""

    def __init__(self, predictor: FramePredictor, frames: Iterable[Images] | str | Path, rig: Rig):
        self._predictor, self._rig = predictor, rig
        self._frames = frames_of_folder(frames, rig.cameras) if isinstance(frames, str | Path) else frames
        self._seconds: dict[str, list[float]] = {"read": [], "compute": [], "interval": []}

    def __iter__(self) -> Iterator[Occupancy]:
        with contextlib.closing(self.with_inputs()) as pairs:
            for _, occupancy in pairs:
                yield occupancy

    def with_inputs(self) -> Generator[tuple[NetworkInput, Occupancy]]:
        """Each occupancy with what the network was given, which lies on the device."""
        with ThreadPoolExecutor(_READ_AHEAD) as readers, ThreadPoolExecutor(1) as device:
            read = (future.result() for _, future in ahead(readers, self._read, self._frames, _READ_AHEAD))
            last = time.perf_counter()
            for frame, occupancy in ahead(device, self._compute, read, _COMPUTE_AHEAD):
                result = occupancy.result()
                now = time.perf_counter()
                self._seconds["interval"].append(now - last)
                yield frame, result
                last = time.perf_counter()
        if self._seconds["interval"]:
            say(self.latency())

    def _read(self, images: Images) -> NetworkInput:
        start = time.perf_counter()
        frame = jax.device_put(self._predictor.prepare(images, self._rig))
        self._seconds["read"].append(time.perf_counter() - start)
        return frame

    def _compute(self, frame: Any) -> Occupancy:
        start = time.perf_counter()
        occupancy = self._predictor.predict(frame)
        self._seconds["compute"].append(time.perf_counter() - start)
        return occupancy

    def latency(self) -> str:
        """Percentiles over the frames so far, ms: to read and send a frame, to compute it, and its whole latency."""
        rows = {
            "read and send": self._seconds["read"],
            "compute": self._seconds["compute"],
            "waited for": self._seconds["interval"],
        }
        lines = [f"{len(self._seconds['interval'])} frames, ms" + "".join(f"{f'p{p}':>9}" for p in _PERCENTILES)]
        for name, seconds in rows.items():
            values = np.percentile(seconds, _PERCENTILES) * 1e3 if seconds else [float("nan")] * len(_PERCENTILES)
            lines.append(f"{name:<{len(lines[0]) - 9 * len(_PERCENTILES)}}" + "".join(f"{v:>9.1f}" for v in values))
        return "\n".join(lines)
