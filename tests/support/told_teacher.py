"""A teacher that is told what to say: it stands where a network does, and counts what it is asked."""

import numpy as np
from nuscenes_root import HEIGHT, WIDTH


class ToldTeacher:
    """A `VoxelPredictor` of the scores of a `World`.

    Attributes:
      asked: tokens of the keyframes that it was asked for, in order.
    """

    def __init__(self, world, *, value_kind="probabilities", at_once=1, change=lambda values: values, fails=()):
        """Says `change` of what the world's dump holds; of the tokens in `fails` it raises or returns that error."""
        self.value_kind, self.image_size, self.at_once = value_kind, (HEIGHT, WIDTH), at_once
        self._world, self._change, self._fails, self.asked = world, change, dict(fails), []

    def __call__(self, keyframes):
        assert 1 <= len(keyframes) <= self.at_once
        return [self._values(keyframe) for keyframe in keyframes]

    def _values(self, keyframe):
        assert keyframe.images.shape == (6, HEIGHT, WIDTH, 3) and keyframe.images.std() > 0
        self.asked.append(keyframe.token)
        error = self._fails.get(keyframe.token)
        if isinstance(error, ValueError):
            return error
        if error is not None:
            raise error
        return self._change(np.moveaxis(self._world.dumped[keyframe.token], 0, -1))
