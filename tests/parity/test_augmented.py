"""At full size, with image and BEV augmentation, the imported model gives what the PyTorch reference gives."""

import numpy as np
import pytest
from recipe import real_keyframe, recipe_weights, run_imported, state_dict_shapes

from occjax.configs import original
from occjax.models.view_transform import depth_centers_m, lift_cells

torch = pytest.importorskip("torch")
from torch_student import TorchStudent  # noqa: E402

KEYFRAME, SEED = "ca9a282c9e77460f8360f564131a8af5", 11
SIZE, FEATURE_SIZE = (480, 640), (30, 40)


def augmented(rig):
    """Every camera's image scaled, mirrored, turned and moved in its own way; BEV turned, scaled and mirrored."""
    r = np.random.default_rng(SEED)
    affine = rig.input_from_pixel.astype(np.float64)
    for n in range(affine.shape[1]):
        angle, scale = np.deg2rad(r.uniform(-5, 5)), r.uniform(0.9, 1.1)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        turn[:2, 2] = r.uniform(-20, 20, 2)
        mirror = np.array([[-1.0, 0, SIZE[1]], [0, 1, 0], [0, 0, 1]]) if n % 2 else np.eye(3)
        affine[0, n] = turn @ np.diag([scale, scale, 1]) @ mirror @ affine[0, n]
    c, s = np.cos(np.deg2rad(14.0)), np.sin(np.deg2rad(14.0))
    bev = 1.03 * np.array([[-c, s, 0], [s, c, 0], [0, 0, 1]])
    return rig._replace(input_from_pixel=np.float32(affine), augmented_from_grid=np.float32(bev)[None])


def cells_of(points, grid):
    """BEV cell x * Y + y of points [..., 3] in the grid's frame; X * Y outside."""
    index = np.floor((points[..., :2] - np.float32(grid.lower_m[:2])) / np.float32(grid.voxel_size_m)).astype(int)
    inside = ((index >= 0) & (index < grid.shape[:2])).all(-1)
    return np.where(inside, index[..., 0] * grid.shape[1] + index[..., 1], grid.shape[0] * grid.shape[1])


@pytest.mark.slow
def test_augmented_keyframe(shared_dir):
    images, rig = real_keyframe(shared_dir, KEYFRAME)
    rig = augmented(rig)
    weights = recipe_weights(state_dict_shapes(shared_dir), SEED)
    config = original.get_config()
    grid = config.grid.build()
    theirs = TorchStudent(config.model, grid).eval()
    extra = theirs.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()}, strict=False)
    assert not extra.missing_keys and all("weight" in key for key in extra.unexpected_keys)  # the class weights
    tensors = {name: torch.as_tensor(value) for name, value in rig._asdict().items()}

    # A point within rounding of a cell's border may land in the neighbour cell; nothing else may differ.
    points = theirs.vt.points(tensors, SIZE, FEATURE_SIZE)  # [1, N, D, h, w, 3]
    cells = cells_of(points[0].permute(0, 2, 3, 1, 4).numpy(), grid)
    our_cells = np.asarray(lift_cells(rig, SIZE, FEATURE_SIZE, depth_centers_m(config.model.depth), grid))[0]
    moved = np.argwhere(cells != our_cells)
    assert len(moved) <= 4 and (cells < grid.shape[0] * grid.shape[1]).mean() > 0.3
    for n, row, column, depth in moved:
        x, y = divmod(int(our_cells[n, row, column, depth]), grid.shape[1])
        center = np.array(grid.lower_m[:2]) + (np.array([x, y]) + 0.5) * grid.voxel_size_m
        before = points[0, n, depth, row, column, :2].clone()
        points[0, n, depth, row, column, :2] = torch.as_tensor(center)
        assert (before - points[0, n, depth, row, column, :2]).abs().max() < 0.51 * grid.voxel_size_m
    theirs.vt.points = lambda *_: points

    with torch.no_grad():
        expected = theirs(torch.as_tensor(images.transpose(0, 1, 4, 2, 3)), tensors)
    logits, depth_logits, lifted, bev = (value.numpy()[0] for value in expected)
    out = run_imported(weights, images, rig, config=config.model, grid=grid)
    np.testing.assert_allclose(out.depth_logits[0], depth_logits.transpose(0, 2, 3, 1), atol=2e-3)
    np.testing.assert_allclose(out.lifted_features[0], lifted.transpose(2, 1, 0), atol=2e-3 * lifted.std())
    np.testing.assert_allclose(out.bev_features[0], bev.transpose(2, 1, 0), atol=2e-3 * bev.std())
    np.testing.assert_allclose(out.voxel_logits[0], logits, atol=2e-2)
    assert np.mean(out.voxel_logits[0].argmax(-1) == logits.argmax(-1)) >= 0.999
