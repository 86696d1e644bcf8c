"""The imported model gives what the original gives."""

import jax
import numpy as np
import pytest
from flax import nnx
from recipe import real_keyframe, recipe_weights, run_imported, state_dict_shapes

from occjax.configs import original
from occjax.convert.torch_names import needs_no_counterpart, student_entries
from occjax.models.student import Student

KEYFRAME = "fd8420396768425eabec9bdddf7e64b6"


def test_parameter_count_and_names(shared_dir):
    shapes = state_dict_shapes(shared_dir)
    config = original.get_config()
    model = nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == pytest.approx(54.37e6, rel=1e-4)
    assert {e.theirs for e in student_entries(config.model)} == {k for k in shapes if not needs_no_counterpart(k)}


@pytest.mark.slow
def test_golden(shared_dir):
    golden = np.load(shared_dir / "goldens" / "student_b_seed7.npz")
    images, rig = real_keyframe(shared_dir, KEYFRAME)
    np.testing.assert_allclose(rig.cam_from_grid[0], golden["lidar2cam"], atol=1e-5)
    config = original.get_config()
    weights = recipe_weights(state_dict_shapes(shared_dir), 7)
    out = run_imported(weights, images, rig, config=config.model, grid=config.grid.build())

    y, x = golden["bev_cell_yx"].T
    ix, iy, iz = golden["voxel_index"].T
    for name, ours, theirs in (
        ("lifted", out.lifted_features[0, x, y], golden["bev_lss"]),
        ("bev", out.bev_features[0, x, y], golden["bev_feat"]),
        ("logits", out.voxel_logits[0, ix, iy, iz], golden["logits"]),
    ):
        difference = np.abs(ours - theirs).max()
        assert difference <= 2e-2, f"{name}: largest difference {difference}"
    agreement = np.mean(out.voxel_logits[0].argmax(-1) == golden["argmax"])
    assert agreement >= 0.999
