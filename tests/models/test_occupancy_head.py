"""The head gives every column of a cell channels of its own, in the grid's order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import GRID

from occjax.config import HeadConfig
from occjax.models.occupancy_head import OccupancyHead


def test_columns_of_a_cell_by_hand():
    head = OccupancyHead(3, HeadConfig(channels=4, hidden=2, activation="relu"), GRID, 2, rngs=nnx.Rngs(0))
    # Nothing of the features, so that each column has the bias of its place in the cell: x, then y, then channel.
    head.hidden.kernel[...] = jnp.zeros((4, 8))
    head.hidden.bias[...] = jnp.arange(8.0)
    columns = np.asarray(head.columns(jnp.ones((1, 3, 5, 3))))
    assert columns.shape == (1, 6, 10, 2)
    for x in range(6):
        for y in range(10):
            place = x % 2 * 2 + y % 2
            np.testing.assert_array_equal(columns[0, x, y], [2 * place, 2 * place + 1])
    assert head.logits(jnp.asarray(columns)).shape == (1, 6, 10, 4, 18)


@pytest.mark.parametrize(("activation", "function"), [("relu", jax.nn.relu), ("softplus", jax.nn.softplus)])
def test_activation_before_the_logits(activation, function):
    head = OccupancyHead(3, HeadConfig(channels=4, hidden=5, activation=activation), GRID, 1, rngs=nnx.Rngs(0))
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 3)), jnp.float32)
    hidden = head.hidden(jax.nn.relu(head.conv(features)))
    assert float(hidden.min()) < 0 < float(hidden.max())
    np.testing.assert_allclose(head.columns(features), function(hidden), rtol=1e-6)
