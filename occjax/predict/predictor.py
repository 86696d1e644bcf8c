"""Predictor: images and a rig in, occupancy out; compiled once for each number of cameras."""

import threading
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from occjax.config import Config
from occjax.grid import VoxelGrid
from occjax.models.preprocess import normalize_images
from occjax.models.student import abstract_student, apply_student
from occjax.predict.images import Images, NetworkInput, prepare
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import CalibrationError, Rig
from occjax.predict.stored_weights import Weights
from occjax.predict.stream import Stream
from occjax.types import CameraRig


class Predictor:
    """A trained student, ready to look: `occjax.load` makes one.

    It may be called from several threads at once.

    Attributes:
      grid: that it predicts on.
      cameras: that it was trained with; a rig may have others, 1 to 12.
      input_size: (width, height) that images are brought to, pixels.
      step: updates that made the weights.
    """

    def __init__(self, config: Config, weights: Weights):
        self.grid: VoxelGrid = config.grid.build()
        self.cameras: tuple[str, ...] = tuple(config.data.cameras)
        self.input_size = (config.data.image_width, config.data.image_height)
        self.step = weights.step
        self._student, _, _ = abstract_student(config.model, self.grid)
        self._arrays = (weights.params, weights.batch_stats)
        self._compiled: dict[int, jax.stages.Compiled] = {}
        self._compiling = threading.Lock()

    def __call__(self, images: Images, rig: Rig | CameraRig) -> Occupancy:
        """Occupancy of one frame.

        Args:
          images: uint8 RGB arrays [h, w, 3] of any sizes, paths or bytes of image files; in a dict by camera name, or
            in the order of the rig's cameras. A camera without one is missing. See `occjax.predict.images.prepare`.
          rig: where the cameras look.

        Raises:
          ImageError: no image, or one that does not belong to the rig.
          CalibrationError: the rig is of another frame, or sees nothing of the grid.
        """
        return self.predict(self.prepare(images, rig))

    def prepare(self, images: Images, rig: Rig | CameraRig) -> NetworkInput:
        """The network's input of one frame, on the host."""
        if isinstance(rig, CameraRig):
            names = self.cameras if len(self.cameras) == rig.is_present.shape[-1] else None
            rig = Rig.from_camera_rig(rig, cameras=names)
        self._require_frame(rig)
        return prepare(images, rig, self.input_size)

    def predict(self, frame: NetworkInput) -> Occupancy:
        """Occupancy of a frame that `prepare` made."""
        logits, classes, coverage = self.program(len(frame.rig.is_present[0]))(*self._arrays, *frame)
        occupancy = Occupancy(logits, classes, float(coverage), self.grid)
        if occupancy.coverage == 0:
            raise CalibrationError(
                f"none of the {int(frame.rig.is_present.sum())} cameras sees anything of the grid ({self.grid}): check "
                "that the poses are in metres, that they go from the grid's frame to the camera and not back, and that "
                "the intrinsics are those of the images"
            )
        return occupancy

    def stream(self, frames: Iterable[Images] | str | Path, rig: Rig) -> Stream:
        """Occupancies of many frames, in order: one is read and sent to the device while another is computed.

        The end of the iteration prints percentiles of the latency; `Stream.latency` has them too.

        Args:
          frames: images of each frame, as a call takes them; or a folder `<camera>/<time>.jpg`.
          rig: of all of them.
        """
        return Stream(self, frames, rig)

    def warm_up(self, cameras: int) -> None:
        """Compiles for a number of cameras, and runs once: the first frame then waits for nothing."""
        jax.block_until_ready(self.program(cameras)(*self._arrays, *self._blank(cameras)))

    def program(self, cameras: int) -> jax.stages.Compiled:
        """The compiled network for a number of cameras."""
        # Under the lock, so that threads which ask for the same one do not compile it twice.
        with self._compiling:
            if cameras not in self._compiled:
                lowered = jax.jit(self._forward).lower(*self._arrays, *self._blank(cameras))
                self._compiled[cameras] = lowered.compile()
            return self._compiled[cameras]

    def _forward(
        self, params: dict, batch_stats: dict, images: UInt8[Array, "1 n h w 3"], rig: CameraRig
    ) -> tuple[Float[Array, "x y z k"], UInt8[Array, "x y z"], Float[Array, ""]]:
        normalized = normalize_images(images)
        predictions, _ = apply_student(self._student, params, batch_stats, normalized, rig, train=False)
        logits = predictions.voxel_logits[0]
        return logits, jnp.argmax(logits, axis=-1).astype(jnp.uint8), predictions.bev_coverage[0]

    def _blank(self, cameras: int) -> NetworkInput:
        """Black images of cameras that are all at the grid's origin."""
        width, height = self.input_size
        eye3, eye4 = (np.tile(np.eye(n, dtype=np.float32), (1, cameras, 1, 1)) for n in (3, 4))
        rig = CameraRig(eye3, eye4, eye3, eye3[:, 0], np.ones((1, cameras), bool))
        return NetworkInput(np.zeros((1, cameras, height, width, 3), np.uint8), rig)

    def _require_frame(self, rig: Rig) -> None:
        if rig.frame not in (None, self.grid.frame):
            described = {
                "lidar": "x right, y forward, 1.84 m above the ground",
                "ego": "x forward, y left, on the ground",
            }
            raise CalibrationError(
                f"the rig is in the {rig.frame} frame, but this network's grid lies in the {self.grid.frame} frame "
                f"({described[self.grid.frame]}); give the poses of the cameras in that frame"
            )
