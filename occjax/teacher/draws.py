"""Draws: the random numbers of one sample, which follow from its token alone."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from occjax.teacher.preprocess import HEIGHT, WIDTH
from occjax.teacher.variants import TeacherVariant

CAMERAS, STRIDE = 6, 8


class Draws(NamedTuple):
    """What the lifter draws.

    Attributes:
      u: uniform in [0, 1), one per camera and pixel of the depth map.
      jitter: standard normal, for the copies of candidates where there are too few; one row per lifted anchor.
    """

    u: Float[np.ndarray, "n h w"]
    jitter: Float[np.ndarray, "m 3"]


def draws_for(token: str, index: int, variant: TeacherVariant) -> Draws:
    """The draws of a sample: the same in any order, batch, process and on any device.

    Args:
      token: the sample's.
      index: 0, 1, …: which of several draws of one sample.
      variant: says how many; version 1 draws nothing, and reads none of them.
    """
    digest = hashlib.sha256(token.encode()).digest()
    seed = [*np.frombuffer(digest, "<u4").tolist(), index]
    r = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    u = r.random((CAMERAS, HEIGHT // STRIDE, WIDTH // STRIDE), dtype=np.float32)
    return Draws(u, r.standard_normal((variant.lifted_anchors, 3), dtype=np.float32))
