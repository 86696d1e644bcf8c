"""Keyframes as a published teacher looks at them: whole images of six cameras, and one matrix for each."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from occjax.config import NUSCENES_CAMERAS, DataConfig
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.sources import open_source
from occjax.errors import DataError


class Keyframe(NamedTuple):
    """One sample.

    Attributes:
      token: of the sample.
      images: uint8 RGB as recorded, in the order of `NUSCENES_CAMERAS`.
      pixel_from_lidar: LIDAR_TOP at keyframe time to the camera's pixels at its own time, times depth in metres.
    """

    token: str
    images: UInt8[np.ndarray, "n h w 3"]
    pixel_from_lidar: Float[np.ndarray, "n 4 4"]


class KeyframeReader:
    """Reads the keyframes of a split; several threads may."""

    def __init__(self, data: DataConfig, split: SplitIndex, image_size: tuple[int, int]):
        """Checks what can be checked before a file is opened.

        Args:
          data: where the images are.
          split: of the index.
          image_size: height and width that the teacher's weights are for, pixels.

        Raises:
          DataError: cameras or image files are absent, or images are of another size.
        """
        absent = [channel for channel in NUSCENES_CAMERAS if channel not in split.cameras]
        if absent:
            raise DataError(f"the teacher looks through six cameras, but the tables lack {', '.join(absent)}")
        self._split, self._source = split, open_source(data, split, Parts())
        self._source.store.require_complete()
        self._columns = split.camera_columns(NUSCENES_CAMERAS)
        height, width = image_size
        sizes = split.camera_size[:, self._columns]
        recorded = split.camera_file[:, self._columns] != b""
        other = np.flatnonzero((recorded & (sizes != (width, height)).any(-1)).any(-1))
        if len(other):
            raise DataError(
                f"the teacher wants images of {width}×{height}, and {len(other)} samples of split {split.name} have "
                f"others, first {split.tokens[other[0]]}"
            )
        self._size = image_size

    def __call__(self, row: int) -> Keyframe:
        """The keyframe in row `row`.

        Raises:
          SampleError: an image cannot be read.
          DataError: a camera has none.
        """
        split = self._split
        silent = [c for c, i in zip(NUSCENES_CAMERAS, self._columns, strict=True) if not split.camera_file[row, i]]
        if silent:
            raise DataError(
                f"sample {split.tokens[row]} has no image of {', '.join(silent)}; the teacher wants all six"
            )
        sample = self._source.open(row)
        images = np.empty((len(NUSCENES_CAMERAS), *self._size, 3), np.uint8)
        matrices = np.tile(np.eye(4), (len(NUSCENES_CAMERAS), 1, 1))
        for camera, column in enumerate(self._columns):
            sample.draw_image(NUSCENES_CAMERAS[camera], np.eye(3), images[camera])
            matrices[camera, :3, :3] = split.pixel_from_cam[row, column]
        # In float64, as the original's: the teacher rounds once, at its door.
        return Keyframe(
            split.tokens[row], images, matrices @ split.cam_from_lidar[row, self._columns].astype(np.float64)
        )
