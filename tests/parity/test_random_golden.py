"""On any machine: with random weights the student gives what the PyTorch reference gave, stage by stage."""

import numpy as np
import pytest
from random_golden import CASES, GRID, golden_config, golden_file, golden_images, golden_weights
from recipe import run_imported

from occjax.types import CameraRig


@pytest.mark.parametrize(("depth", "splat"), CASES)
def test_random_weights(depth, splat):
    config = golden_config(depth, splat)
    with np.load(golden_file(depth, splat)) as golden:
        rig = CameraRig(*(golden[f"rig_{name}"] for name in CameraRig._fields))
        out = run_imported(golden_weights(config), golden_images(), rig, config=config, grid=GRID)
        for stage in ("depth_logits", "lifted_features", "bev_features", "voxel_logits"):
            ours, theirs = getattr(out, stage), golden[stage]
            assert ours.shape == theirs.shape
            error = np.abs(ours - theirs).max() / theirs.std()
            assert error < 5e-5, f"{stage}: largest difference {error:.1e} of the standard deviation"
