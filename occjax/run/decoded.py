"""One sweep, image, label and teacher file of a split, decoded as training would: what counting files cannot find."""

import numpy as np

from occjax.config import Config
from occjax.data.augment import plain_resize
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.rig_checks import rig_problems
from occjax.data.sources import SampleParts, open_source
from occjax.errors import DataError, SampleError

# Files that are absent are counted elsewhere: so many samples are tried for one that is there.
_TRIES = 20


def decoding_problems(config: Config, split: SplitIndex, parts: Parts) -> list[str]:
    """What is wrong with the first file of every kind that is there, and with the cameras; `parts` are looked at.

    Every message names file and sample token.
    """
    cameras = tuple(camera for camera in config.data.cameras if camera in split.cameras)
    found = rig_problems(split, cameras)
    try:
        source = open_source(config.data, split, parts)
    except DataError as error:
        return [*found, str(error)]
    out = np.empty((config.data.image_height, config.data.image_width, 3), np.uint8)

    def draw(camera: str, row: int, sample: SampleParts) -> None:
        column = split.cameras.index(camera)
        if split.camera_file[row, column]:
            size = split.camera_size[row, column]
            sample.draw_image(camera, plain_resize(size, out.shape[1::-1]), out)

    readers = [lambda row, sample, camera=camera: draw(camera, row, sample) for camera in cameras]
    readers += [lambda row, sample: sample.points()] if parts.lidar else []
    readers += [lambda row, sample: sample.labels()] if parts.labels else []
    readers += [lambda row, sample: sample.teacher()] if parts.teacher else []
    for read in readers:
        for row in range(min(len(split), _TRIES)):
            try:
                read(row, source.open(row))
            except SampleError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                found.append(f"{split.name}: {error}")
            break
    return found
