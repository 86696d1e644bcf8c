"""A tiny generated world with its teacher, and the configuration to train on it."""

from pathlib import Path

import pytest
from tiny_world import tiny_config

from occjax.config import Config
from occjax.data.prepare import prepare


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world") / "nuscenes"
    prepare(tiny_config(root))
    return root


@pytest.fixture
def config(world) -> Config:
    return tiny_config(world)
