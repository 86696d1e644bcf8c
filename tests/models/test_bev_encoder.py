"""The BEV stages come back to the grid's size, whatever it is."""

import jax.numpy as jnp
import pytest
from flax import nnx

from occjax.config import BevEncoderConfig
from occjax.models.bev_encoder import BevEncoder, BevNeck


@pytest.mark.parametrize("size", [(16, 16), (20, 12), (13, 9)])
def test_any_grid_size_comes_back(size):
    config = BevEncoderConfig(stage_channels=(4, 6, 8), blocks_per_stage=2, neck_channels=8, out_channels=5)
    encoder, neck = BevEncoder(3, config, rngs=nnx.Rngs(0)), BevNeck(config, rngs=nnx.Rngs(1))
    stages = encoder(jnp.ones((1, *size, 3)), train=False)
    assert [s.shape[-1] for s in stages] == [4, 6, 8]
    assert stages[0].shape[1:3] == tuple(-(-n // 2) for n in size)
    assert neck(stages[0], stages[-1], size, train=False).shape == (1, *size, 5)
