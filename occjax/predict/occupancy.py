"""Occupancy of one frame: what a prediction says, computed where it lies, and fetched when somebody asks."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from occjax.classes import FREE
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.pooling import highest_occupied
from occjax.storage import writing


class OccupiedPoints(NamedTuple):
    """Occupied voxels as points.

    Attributes:
      position_m: float32 [n, 3] centres in the grid's frame, metres.
      classes: uint8 [n].
      probability: float32 [n] of that class.
    """

    position_m: Float32[np.ndarray, "n 3"]
    classes: UInt8[np.ndarray, "n"]
    probability: Float32[np.ndarray, "n"]


class Occupancy:
    """Classes and probabilities of every voxel of a grid; `occjax.classes.CLASS_NAMES` names the classes.

    Attributes:
      grid: where the voxels are.
      logits: float32 [X, Y, Z, K], on the device: the network's, divided by its temperature; of an export, logarithms
        of its probabilities. UserError where an export was made without them.
      coverage: share of the grid's columns that a feature of a camera falls into.
    """

    def __init__(self, logits: Any, classes: Any, coverage: float, grid: VoxelGrid):
        self._logits, self.grid, self.coverage = logits, grid, coverage
        self.classes = np.asarray(classes)  # uint8 [X, Y, Z] most probable class

    def __repr__(self) -> str:
        count = int(np.count_nonzero(self.classes != FREE))
        return f"<Occupancy of {self.grid}: {count} voxels occupied, {100 * self.coverage:.0f} % of the columns seen>"

    @property
    def logits(self) -> Any:
        """See above."""
        if self._logits is None:
            raise UserError("this export gives classes alone; export with --outputs=classes,probabilities,bev")
        return self._logits

    @functools.cached_property
    def probabilities(self) -> Float32[np.ndarray, "x y z k"]:
        """Of every class, summing to 1; calibrated where a temperature was fitted (`Predictor.temperature`)."""
        return np.asarray(_probabilities(self.logits))

    def bev(self) -> UInt8[np.ndarray, "x y"]:
        """Class of each column seen from above: that of its highest occupied voxel, free where there is none."""
        return highest_occupied(self.classes)[0]

    def entropy(self) -> Float32[np.ndarray, "x y z"]:
        """Uncertainty of every voxel, nats: 0 where it is certain, log K = 2.89 where nothing is known."""
        return np.asarray(_entropy(self.logits))

    def points(self) -> OccupiedPoints:
        """The voxels that are not free."""
        index = np.nonzero(self.classes != FREE)
        classes = self.classes[index]
        return OccupiedPoints(self.grid.centers_m()[index], classes, self.confidence()[index])

    def confidence(self) -> Float32[np.ndarray, "x y z"]:
        """Probability of the most probable class of every voxel."""
        return np.asarray(_confidence(self.logits))

    def save(self, path: str | Path, *, probabilities: bool = False) -> Path:
        """Writes an .npz that `python -m occjax.drawing` and `python -m occjax.metrics` read; returns its path.

        It holds `semantics` uint8 [X, Y, Z], `confidence` float16 [X, Y, Z] and `grid`, and where they are asked for
        `probabilities` float16 [X, Y, Z, K]. Raises OSError.
        """
        path = Path(path)
        arrays = {"semantics": self.classes, "confidence": self.confidence().astype(np.float16)}
        if probabilities:
            arrays["probabilities"] = self.probabilities.astype(np.float16)
        with writing(path) as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, grid=np.array(json.dumps(self.grid.to_dict())), **arrays)
        return path


@jax.jit
def _probabilities(logits: Float[Array, "x y z k"]) -> Float[Array, "x y z k"]:
    return jax.nn.softmax(logits)


@jax.jit
def _confidence(logits: Float[Array, "x y z k"]) -> Float[Array, "x y z"]:
    return jax.nn.softmax(logits).max(axis=-1)


@jax.jit
def _entropy(logits: Float[Array, "x y z k"]) -> Float[Array, "x y z"]:
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
