"""Predictor: images and a rig in, occupancy out; compiled once for any rig of N cameras, or for one that stays."""

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from occjax.config import Config
from occjax.grid import VoxelGrid
from occjax.models.fixed_rig import FixedRig, fix_rig, fixed_rig_logits
from occjax.models.preprocess import normalize_images
from occjax.models.student import abstract_student, apply_student
from occjax.predict.images import Images, NetworkInput, prepare
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import CalibrationError, Rig
from occjax.predict.stored_weights import Weights
from occjax.predict.stream import Stream
from occjax.types import CameraRig

_log = logging.getLogger(__name__)


class Predictor:
    """A trained student, ready to look: `occjax.load` makes one.

    It may be called from several threads at once.

    Attributes:
      grid: that it predicts on.
      cameras: that it was trained with; a rig may have others, 1 to 12.
      input_size: (width, height) that images are brought to, pixels.
      step: updates that made the weights.
      temperature: of its probabilities, as `--mode=eval --fit-temperature` has fitted it; 1 = the network's own.
    """

    def __init__(self, config: Config, weights: Weights):
        self.grid: VoxelGrid = config.grid.build()
        self.cameras: tuple[str, ...] = tuple(config.data.cameras)
        self.input_size = (config.data.image_width, config.data.image_height)
        self.step, self.temperature = weights.step, weights.temperature
        self._student, _, _ = abstract_student(config.model, self.grid)
        self._arrays = (weights.params, weights.batch_stats)
        self._compiled: dict[Any, jax.stages.Compiled] = {}
        # And which BEV cells each of its cameras covers.
        self._fixed: dict[bytes, tuple[FixedRig, np.ndarray]] = {}
        self._compiling = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of step {self.step}, {self.grid}, images of {self.input_size}>"

    def __call__(self, images: Images, rig: Rig | CameraRig) -> Occupancy:
        """Occupancy of one frame.

        Args:
          images: uint8 RGB arrays [h, w, 3] of any sizes, paths or bytes of image files; in a dict by camera name, or
            in the order of the rig's cameras. A camera without one is missing. See `occjax.predict.images.prepare`.
          rig: where the cameras look.

        Raises:
          ImageError: no image, or one that does not belong to the rig.
          CalibrationError: the rig is of another frame and does not say where that is, or sees nothing of the grid.
        """
        return self.predict(self.prepare(images, rig))

    def prepare(self, images: Images, rig: Rig | CameraRig) -> NetworkInput:
        """The network's input of one frame, on the host."""
        if isinstance(rig, CameraRig):
            names = self.cameras if len(self.cameras) == rig.is_present.shape[-1] else None
            rig = Rig.from_camera_rig(rig, cameras=names)
        return prepare(images, rig.in_frame(self.grid.frame), self.input_size)

    def predict(self, frame: NetworkInput) -> Occupancy:
        """Occupancy of a frame that `prepare` made."""
        is_present = frame.rig.is_present[0]
        constant = self._fixed.get(_key(frame.rig))
        if constant is not None:
            fixed, covers = constant
            coverage = covers[np.asarray(is_present)].any(0).mean()
            logits, classes = self._program_of(fixed)(*self._arrays, frame.images, is_present, fixed)
        else:
            logits, classes, coverage = self.program(len(is_present))(*self._arrays, *frame)
        occupancy = Occupancy(logits, classes, float(coverage), self.grid)
        if occupancy.coverage == 0:
            raise CalibrationError(self._sees_nothing(int(is_present.sum())))
        return occupancy

    def stream(self, frames: Iterable[Images] | str | Path, rig: Rig) -> Stream:
        """Occupancies of many frames, in order: one is read and sent to the device while another is computed.

        The end of the iteration prints percentiles of the latency; `Stream.latency` has them too.

        Args:
          frames: images of each frame, as a call takes them; or a folder `<camera>/<time>.jpg`.
          rig: of all of them.
        """
        return Stream(self, frames, rig)

    def fix(self, rig: Rig) -> None:
        """Compiles for a rig that stays as it is: what its geometry decides is then not computed in every frame.

        Frames of this rig, of all of its cameras or some, are predicted so from then on; those of others as before.

        Raises:
          CalibrationError: the rig is of another frame, sees nothing of the grid, or does not say its image sizes.
        """
        rig = rig.in_frame(self.grid.frame)
        if rig.sizes is None:
            raise CalibrationError("a rig that stays has to say the sizes of its images; give it `sizes`")
        self.fix_input(rig.to_input(rig.sizes, np.ones(len(rig.cameras), bool), self.input_size))

    def fix_input(self, rig: CameraRig) -> jax.stages.Compiled:
        """As `fix`, of a rig as the network is given it, all cameras present; returns the program."""
        width, height = self.input_size
        cameras = rig.is_present.shape[1]
        student = nnx.merge(self._student, *self._arrays)
        fixed, covers = fix_rig(student, rig, (height, width))
        if not covers.any():
            raise CalibrationError(self._sees_nothing(cameras))
        fixed = jax.tree.map(jnp.asarray, fixed)
        blank, program = self._blank(cameras), self._program_of(fixed)
        jax.block_until_ready(program(*self._arrays, blank.images, blank.rig.is_present[0], fixed))
        self._fixed[_key(rig)] = (fixed, covers)
        return program

    def warm_up(self, cameras: int) -> None:
        """Compiles for a number of cameras, and runs once: the first frame then waits for nothing."""
        jax.block_until_ready(self.program(cameras)(*self._arrays, *self._blank(cameras)))

    def _program_of(self, fixed: FixedRig) -> jax.stages.Compiled:
        """The compiled network for a rig that stays, and all others with as many rows of points."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(fixed))
        with self._compiling:
            if shapes not in self._compiled:
                _log.info("compiling the network for a rig of %d cameras, once", len(fixed.context_gate))
                blank = self._blank(len(fixed.context_gate))
                lowered = jax.jit(self._forward_fixed).lower(
                    *self._arrays, blank.images, blank.rig.is_present[0], fixed
                )
                self._compiled[shapes] = lowered.compile()
            return self._compiled[shapes]

    def program(self, cameras: int) -> jax.stages.Compiled:
        """The compiled network for a number of cameras."""
        # Under the lock, so that threads which ask for the same one do not compile it twice.
        with self._compiling:
            if cameras not in self._compiled:
                _log.info("compiling the network for %d cameras, once", cameras)
                lowered = jax.jit(self._forward).lower(*self._arrays, *self._blank(cameras))
                self._compiled[cameras] = lowered.compile()
            return self._compiled[cameras]

    def _forward(
        self, params: dict, batch_stats: dict, images: UInt8[Array, "1 n h w 3"], rig: CameraRig
    ) -> tuple[Float[Array, "x y z k"], UInt8[Array, "x y z"], Float[Array, ""]]:
        normalized = normalize_images(images)
        predictions, _ = apply_student(self._student, params, batch_stats, normalized, rig, train=False)
        return *self._logits_and_classes(predictions.voxel_logits[0]), predictions.bev_coverage[0]

    def _forward_fixed(
        self, params: dict, batch_stats: dict, images: UInt8[Array, "1 n h w 3"], is_present, fixed: FixedRig
    ) -> tuple[Float[Array, "x y z k"], UInt8[Array, "x y z"]]:
        student = nnx.merge(self._student, params, batch_stats)
        return self._logits_and_classes(fixed_rig_logits(student, normalize_images(images), fixed, is_present)[0])

    def _logits_and_classes(
        self, logits: Float[Array, "x y z k"]
    ) -> tuple[Float[Array, "x y z k"], UInt8[Array, "x y z"]]:
        # Classes of the network's own logits: a division may make two of them equal.
        return logits / self.temperature, jnp.argmax(logits, axis=-1).astype(jnp.uint8)

    def _blank(self, cameras: int) -> NetworkInput:
        """Black images of cameras that are all at the grid's origin."""
        width, height = self.input_size
        eye3, eye4 = (np.tile(np.eye(n, dtype=np.float32), (1, cameras, 1, 1)) for n in (3, 4))
        rig = CameraRig(eye3, eye4, eye3, eye3[:, 0], np.ones((1, cameras), bool))
        return NetworkInput(np.zeros((1, cameras, height, width, 3), np.uint8), rig)

    def _sees_nothing(self, cameras: int) -> str:
        return (
            f"none of the {cameras} cameras sees anything of the grid ({self.grid}): check that the poses are in "
            "metres, that they go from the grid's frame to the camera and not back, and that the intrinsics are those "
            "of the images"
        )


def _key(rig: CameraRig) -> bytes:
    """A rig's geometry, whichever of its cameras are there."""
    return b"".join(
        np.asarray(part).tobytes() for part in (rig.pixel_from_cam, rig.cam_from_grid, rig.input_from_pixel)
    )
