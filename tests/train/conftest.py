"""The configuration to train on the tiny generated world."""

import pytest
from tiny_world import tiny_config

from occjax.config import Config


@pytest.fixture
def config(world) -> Config:
    return tiny_config(world)
