"""What tests of the weight converter share."""

import pytest

from occjax.config import BackboneConfig
from occjax.run import convert_weights


@pytest.fixture
def small_backbone(monkeypatch):
    """Makes the converter's ResNets narrow, so that files stay small."""
    monkeypatch.setattr(convert_weights, "BackboneConfig", lambda depth: BackboneConfig(depth=depth, width=4))
    return BackboneConfig(depth=18, width=4)
