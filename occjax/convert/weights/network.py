"""A teacher's network over keyframes: draws by token, their average, a keyframe on every device at a time."""

import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.sharding import Mesh

from occjax.convert.weights.keyframes import Keyframe
from occjax.convert.weights.taught import Values
from occjax.errors import UserError
from occjax.teacher.draws import draws_for
from occjax.teacher.outputs import half_precision
from occjax.teacher.preprocess import RECORDED_HEIGHT, RECORDED_WIDTH
from occjax.teacher.teacher import Teacher

_log = logging.getLogger(__name__)


class NetworkPredictor:
    """A `VoxelPredictor` of a network; the same values for a keyframe in any order, batch or process.

    Attributes:
      value_kind, image_size, at_once: see `VoxelPredictor`.
    """

    def __init__(self, teacher: Teacher, mesh: Mesh, *, draws: int):
        """Puts the weights on every device.

        Args:
          teacher: the network.
          mesh: this process's devices.
          draws: how many draws of a sample are averaged, before they are rounded to float16.
        """
        self.value_kind: str = teacher.variant.value_kind
        self.image_size, self._draws = (RECORDED_HEIGHT, RECORDED_WIDTH), draws
        # One program per device and not one over all: a keyframe's shapes hold no batch axis to split.
        self._teachers = [
            dataclasses.replace(teacher, params=jax.device_put(teacher.params, device)) for device in mesh.devices.flat
        ]
        self.at_once = len(self._teachers)

    def __call__(self, keyframes: Sequence[Keyframe]) -> list[Values | UserError]:
        """As `VoxelPredictor`."""
        with ThreadPoolExecutor(self.at_once) as pool:
            # Threads, since the host waits for a device in the middle of a keyframe.
            return list(pool.map(self._values, self._teachers[: len(keyframes)], keyframes))

    def _values(self, teacher: Teacher, keyframe: Keyframe) -> Values | UserError:
        try:
            features = teacher.image_features(keyframe.images)
            said = (
                teacher.occupancy(
                    features, keyframe.pixel_from_lidar, draws_for(keyframe.token, index, teacher.variant)
                )
                for index in range(self._draws)
            )
            first = next(said)
            if first.candidates == 0:
                _log.warning(
                    "sample %s: no pixel of its images was given a depth, so that Gaussians stand where stored ones do",
                    keyframe.token,
                )
            if self._draws == 1:
                return np.asarray(first.values)
            total = first.values_float32
            for output in said:
                total = total + output.values_float32
            return np.asarray(half_precision(total / self._draws))
        # Of one sample, which is named with the others that gave nothing.
        except UserError as error:
            return error
        # Of the device, and so of all samples after this one.
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the device failed at sample {keyframe.token}: {reason}; where its memory is full, leave it to this "
                "program alone and run the same command again"
            ) from error
