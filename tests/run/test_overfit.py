"""A student that cannot learn one sample by heart is wired wrongly somewhere."""

import jax
import pytest
from tiny_world import overfit_config

from occjax.run.train import train
from occjax.system.mesh import make_mesh


@pytest.mark.slow
def test_one_sample_is_learnt_by_heart(tmp_path):
    config = overfit_config(tmp_path / "world")
    from occjax.run.prepare import prepare

    prepare(config)
    evaluation = train(config, tmp_path / "run", mesh=make_mesh(jax.devices()[:1]))
    assert evaluation.scalars["miou_present"] > 90
