"""Agreement of all processes on what comes after a step: whether to stop, whether to save."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from occjax.system.mesh import put_batch, replicated


class Agreement:
    """Numbers that any process may raise; all of them see the largest one, after the same step.

    In a run of several processes that is what they said a step earlier. The exchange is handed to the devices behind
    the step, and looked at when they have been given the next one, so that nobody waits for it.
    """

    def __init__(self, mesh: Mesh, count: int):
        self._mesh = mesh
        self._largest = jax.jit(lambda said: jnp.max(said, axis=0), out_shardings=replicated(mesh))
        # Alone, there is nobody to tell and nothing to compile.
        self._open = self._exchange([0] * count) if jax.process_count() > 1 else None

    def _exchange(self, said: Sequence[int]) -> jax.Array:
        rows = np.tile(np.asarray(said, np.int32), (self._mesh.local_mesh.size, 1))
        return self._largest(put_batch(rows, self._mesh))

    def after_step(self, *said: int) -> list[int]:
        """Call it on every process after each step, in the same order of numbers; returns the largest of each."""
        if self._open is None:
            return list(said)
        known, self._open = self._open, self._exchange(said)
        return np.asarray(known).tolist()
