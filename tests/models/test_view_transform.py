"""Lifted points land in the right cells, and the splat sums them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import GRID, make_rig

from occjax.config import DepthConfig, GridConfig, ViewTransformConfig
from occjax.models.view_transform import ViewTransform, bev_coverage, depth_centers_m, lift_cells

OUTSIDE = GRID.shape[0] * GRID.shape[1]


def cells_of(rig, *, depths=(2.5, 5.5), size=(32, 48), grid=GRID):
    rig = jax.tree.map(jnp.asarray, rig)
    return np.asarray(lift_cells(rig, size, (size[0] // 16, size[1] // 16), jnp.array(depths), grid))


def test_depth_centres():
    centers = depth_centers_m(DepthConfig(min_m=0.5, max_m=45.0, bins=16))
    np.testing.assert_allclose(centers[:2], [0.5 + 0.5 * 2.78125, 0.5 + 1.5 * 2.78125], rtol=1e-6)


def test_points_by_hand():
    cells = cells_of(make_rig((0.0,)))[0, 0]  # [2, 3, D]
    # Middle column: u = 24 is the optical axis, so x = 0 and y = depth: cell x 8, y 8 + floor(depth).
    np.testing.assert_array_equal(cells[:, 1], [[8 * 16 + 10, 8 * 16 + 13]] * 2)
    # Right column: u = 40, x = (40 - 24) / 28.8 of the depth: 1.39 m and 3.06 m.
    np.testing.assert_array_equal(cells[0, 2], [9 * 16 + 10, 11 * 16 + 13])
    np.testing.assert_array_equal(
        cells_of(make_rig((0.0,)), depths=(7.9, 8.1))[0, 0, :, 1], [[8 * 16 + 15, OUTSIDE]] * 2
    )


def test_yaw_turns_points_to_the_left():
    cells = cells_of(make_rig((90.0,)), depths=(3.5,))[0, 0, :, 1, 0]
    x, y = np.divmod(cells, 16)
    np.testing.assert_array_equal(x, [4, 4])
    assert np.isin(y, (7, 8)).all()


def test_image_augmentation_is_undone():
    plain, rig = cells_of(make_rig()), make_rig()
    flip = np.float32([[-1, 0, 48], [0, 1, 0], [0, 0, 1]])
    flipped = cells_of(rig._replace(input_from_pixel=np.tile(flip, (1, 3, 1, 1))))
    np.testing.assert_array_equal(flipped, plain[:, :, :, ::-1])
    # Recorded twice as large and halved: the same rays.
    twice = rig.pixel_from_cam * np.float32([[2, 1, 2], [1, 2, 2], [1, 1, 1]])
    half = np.tile(np.diag(np.float32([0.5, 0.5, 1])), (1, 3, 1, 1))
    np.testing.assert_array_equal(cells_of(rig._replace(pixel_from_cam=twice, input_from_pixel=half)), plain)


def test_bev_flip_mirrors_the_cells():
    rig = make_rig()
    plain = cells_of(rig)
    mirrored = cells_of(rig._replace(augmented_from_grid=np.diag(np.float32([-1, 1, 1]))[None]))
    inside = (plain != OUTSIDE) & (mirrored != OUTSIDE)
    x, y = np.divmod(plain[inside], 16)
    # A point exactly on a border falls on the other side of it.
    x2, y2 = np.divmod(mirrored[inside], 16)
    np.testing.assert_array_equal(y2, y)
    assert np.mean(x2 == 15 - x) > 0.8 and np.isin(x2 - (15 - x), (0, 1)).all()


def test_missing_cameras_put_nothing_on_the_grid():
    rig = make_rig()
    rig.is_present[0, 1] = False
    cells = cells_of(rig)
    assert (cells[:, 1] == OUTSIDE).all()
    np.testing.assert_array_equal(np.delete(cells, 1, 1), np.delete(cells_of(make_rig()), 1, 1))


def test_a_cell_of_several_columns_gets_what_they_would():
    depth, context = DepthConfig(min_m=0.5, max_m=12.5, bins=6), jnp.ones((1, 3, 2, 3, 2))
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 2, 3, 6)), jnp.float32)
    rig, lifted = jax.tree.map(jnp.asarray, make_rig()), {}
    for cell in (1, 2):
        transform = ViewTransform(depth, ViewTransformConfig(channels=2, cell_voxels=cell), GRID, rngs=nnx.Rngs(0))
        transform.refine.kernel[...] = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
        lifted[cell], _ = jax.jit(lambda t=transform: t(context, logits, rig, (32, 48)))()
    assert lifted[2].shape == (1, 8, 8, 2) and float(lifted[2].max()) > 0
    np.testing.assert_allclose(lifted[2], lifted[1].reshape(1, 8, 2, 8, 2, 2).sum((2, 4)), atol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_sum_keeps_depth_confidence_and_mean_drops_it(mode):
    config = DepthConfig(min_m=0.5, max_m=12.5, bins=6)
    transform = ViewTransform(config, ViewTransformConfig(channels=2, splat=mode), GRID, rngs=nnx.Rngs(0))
    transform.refine.kernel[...] = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2))
    rig, context = jax.tree.map(jnp.asarray, make_rig((0.0,))), jnp.ones((1, 1, 2, 3, 2))
    bev, coverage = jax.jit(lambda: transform(context, jnp.zeros((1, 1, 2, 3, 6)), rig, (32, 48)))()
    hit = np.asarray(bev[0, :, :, 0]) != 0
    assert hit.mean() == pytest.approx(float(coverage[0]))
    if mode == "mean":
        np.testing.assert_allclose(bev[0][hit], 1.0, rtol=1e-4)
    else:
        # Each point brings its probability of 1/6: the mass of all points inside, and two rows in every cell.
        inside = np.count_nonzero(cells_of(make_rig((0.0,)), depths=depth_centers_m(config)) != OUTSIDE)
        np.testing.assert_allclose(bev[..., 0].sum(), inside / 6, rtol=1e-4)
        assert np.asarray(bev)[0][hit].min() == pytest.approx(2 / 6, rel=1e-4)


def golden_rig(shared_dir):
    """The rig of a real keyframe, images resized to 640 x 480."""
    golden = np.load(shared_dir / "goldens" / "student_b_seed7.npz")
    return make_rig((0,) * 6)._replace(
        pixel_from_cam=golden["K"][None],
        cam_from_grid=golden["lidar2cam"][None],
        input_from_pixel=np.tile(np.diag(np.float32([0.4, 480 / 900, 1])), (1, 6, 1, 1)),
    )


@pytest.mark.parametrize(
    ("bins", "of_one_row", "of_all_rows"), [(16, 0.126, 0.238), (44, 0.337, 0.622), (88, 0.626, 0.894)]
)
def test_coverage_of_the_real_rig(shared_dir, bins, of_one_row, of_all_rows):
    """The share of cells within 40 m that ever receive a feature.

    Counted on the golden's matrices by an independent program in float64. The row count is what a rig without pitch and
    roll would give, where all rows of a column fall into the same cells.
    """
    grid = GridConfig().build()
    cells = cells_of(
        golden_rig(shared_dir), depths=depth_centers_m(DepthConfig(max_m=45.0, bins=bins)), size=(480, 640), grid=grid
    )
    near = np.linalg.norm(grid.centers_m()[:, :, 0, :2], axis=-1).ravel() < 40
    for rows, share in ((cells[:, :, 15:16], of_one_row), (cells, of_all_rows)):
        hit = np.zeros(40001, bool)
        hit[rows] = True
        assert hit[:-1][near].mean() == pytest.approx(share, abs=0.002)
        np.testing.assert_allclose(bev_coverage(jnp.asarray(rows), 40000), [hit[:-1].mean()], rtol=1e-5)


def test_default_bins_reach_the_corners_of_the_default_grid(shared_dir):
    """The share of all 40,000 cells, counted by an independent program in float64; to 45 m it is 0.629 with 88 bins."""
    cells = cells_of(
        golden_rig(shared_dir), depths=depth_centers_m(DepthConfig()), size=(480, 640), grid=GridConfig().build()
    )
    assert len(np.unique(cells)) - 1 == pytest.approx(0.808 * 40000, rel=0.005)
