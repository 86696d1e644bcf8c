"""What holds for any weights: distributions, symmetries, what nobody sees, and what the lifter does with few points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.grid import VoxelGrid
from occjax.teacher.anchors import Gaussians, means_m
from occjax.teacher.deformable_aggregation import attention, project, read_images
from occjax.teacher.draws import draws_for
from occjax.teacher.lifter import EMPTY, JITTER_M, Candidates, choose_bins, lift, padded
from occjax.teacher.splat import probabilities
from occjax.teacher.variants import GRID, VARIANTS

SMALL = VoxelGrid("lidar", (-5.0, -4.0, -2.0), 0.5, (20, 17, 8))
splat = jax.jit(partial(probabilities, variant=VARIANTS["gs6400"], grid=SMALL))


@pytest.fixture(scope="module")
def gaussians():
    r = np.random.default_rng(0)
    fields = (
        r.uniform((-5, -4, -2), (5, 4.5, 2), (300, 3)),
        r.uniform(0.05, 0.8, (300, 3)),
        r.normal(0, 1, (300, 4)),
        r.uniform(0.1, 1, 300),
        r.normal(0, 2, (300, 17)),
    )
    return Gaussians(*(jnp.asarray(x, jnp.float32) for x in fields))


def test_probabilities_are_distributions(gaussians):
    found = splat(gaussians)
    np.testing.assert_allclose(found.values.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(found.values[..., 17], 1 - found.occupied)
    assert float(found.occupied.max()) > 0.9
    assert float(found.values.min()) >= 0


def test_opacity_does_not_change_what_is_occupied(gaussians):
    found, other = splat(gaussians), splat(gaussians._replace(opacities=gaussians.opacities[::-1]))
    np.testing.assert_array_equal(found.occupied, other.occupied)
    assert float(jnp.abs(found.values - other.values).max()) > 0.01


def test_the_order_of_gaussians_does_not_matter(gaussians):
    order = np.random.default_rng(1).permutation(300)
    found, other = splat(gaussians), splat(jax.tree.map(lambda x: x[order], gaussians))
    np.testing.assert_allclose(found.values, other.values, atol=2e-5)
    np.testing.assert_allclose(found.density, other.density, rtol=1e-4, atol=1e-5)


def test_a_gaussian_at_a_voxels_centre_fills_it(gaussians):
    center = jnp.asarray(SMALL.centers_m()[3, 4, 5])
    found = splat(gaussians._replace(means=gaussians.means.at[0].set(center)))
    assert found.occupied[3, 4, 5] == 1
    assert np.isfinite(np.asarray(found.values)).all()


def test_untouched_voxels_are_free_and_of_unknown_class(gaussians):
    corner = jax.tree.map(lambda x: x[:1], gaussians)._replace(
        means=jnp.asarray([[-5.0, -4.0, -2.0]]), scales=jnp.full((1, 3), 0.1)
    )
    found = splat(corner)
    assert found.occupied[-1, -1, -1] == 0
    np.testing.assert_allclose(found.semantics[-1, -1, -1], 1 / 17)


@jax.jit
def read_in_part(points, matrix, logits, levels):
    """What all of four cameras read, and two of them; with equal weights, which do not know that two are left out."""
    views = project(points, matrix)
    shares = attention(logits, views.is_visible)
    equal = 0.25 * (shares > 0)
    return views, shares, read_images(levels, views, shares, 4), read_images(levels, views, equal, 2)


def test_what_no_camera_sees_reads_nothing():
    # Four cameras that look along +z, and a Gaussian of which one point is before them, one behind, one beside.
    matrix = np.tile(
        np.array([[800.0, 0, 800, 0], [0, 800, 432, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32), (4, 1, 1)
    )
    points = jnp.asarray([[[0, 0, 5.0], [0, 0, -5.0], [90, 0, 5.0]], [[0, 0, -1.0]] * 3])
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 4, 2, 3, 4)), jnp.float32)
    levels = (jnp.ones((4, 6, 10, 8)), jnp.ones((4, 3, 5, 8)))
    views, shares, reading, part = read_in_part(points, jnp.asarray(matrix), logits, levels)
    np.testing.assert_array_equal(views.is_visible[:, :, 0], [[True, False, False], [False] * 3])
    np.testing.assert_allclose(np.sum(shares[0], axis=(0, 1, 2)), 1, rtol=1e-6)
    assert not np.any(shares[1])
    np.testing.assert_allclose(reading.features, [[1] * 8, [0] * 8], atol=1e-6)
    # Two cameras on two levels read a quarter each, and the number that there should have been is told.
    np.testing.assert_allclose(part.features[0], 2 * 2 * 0.25)
    assert part.most_cameras == reading.most_cameras == 4


def test_a_point_between_two_pixels_reads_neither_with_the_others_share():
    # Positions that a rounding puts on either side of a pixel's centre, in a map where 0 and 1 lie side by side.
    height, width, count = 108, 200, 4000
    r = np.random.default_rng(0)
    row, column = r.integers(0, height, count), r.integers(0, width, count)
    points = np.stack([(column + 0.5) / width * 1600, (row + 0.5) / height * 864, np.ones(count)], -1).astype(
        np.float32
    )
    points *= r.uniform(2, 60, (count, 1)).astype(np.float32)
    checkers = jnp.asarray((np.arange(height)[:, None] + np.arange(width)) % 2, jnp.float32)
    levels = (jnp.broadcast_to(checkers[None, :, :, None], (1, height, width, 4)),)

    @jax.jit
    def read(points, levels):
        # Two points of each Gaussian, as a loop of one pass is none.
        views = project(jnp.stack([points, -points], axis=1), jnp.eye(4)[None])
        return read_images(levels, views, jnp.ones((count, 1, 1, 2, 4)), 1)

    found = np.asarray(read(jnp.asarray(points), levels).features)
    np.testing.assert_allclose(found, np.broadcast_to(((row + column) % 2)[:, None], found.shape), atol=1e-3)


M = 12


def made_of(count, rows=20):
    """`count` candidates within rows that hold something else."""
    r = np.random.default_rng(count)
    points = np.full((rows, 3), 99.0, np.float32)
    points[:count] = r.uniform(-40, 40, (count, 3)) * (1, 1, 0.05)
    return Candidates(jnp.asarray(points), jnp.asarray(count))


@pytest.mark.parametrize(("count", "copies"), [(1, 11), (5, 2), (M - 1, 1), (M, 0), (M + 1, 0), (20, 0)])
def test_padding_adds_whole_copies_that_moved_a_little(count, copies):
    candidates, jitter = made_of(count), np.random.default_rng(1).normal(0, 1, (M, 3)).astype(np.float32)
    points, is_valid = map(np.asarray, jax.jit(padded)(candidates, jnp.asarray(jitter)))
    assert is_valid.sum() == count * (copies + 1) >= min(M, count)
    np.testing.assert_array_equal(points[:count], candidates.points[:count])
    for copy in range(copies):
        rows = slice(count * copy, min(count * (copy + 1), M))
        added = np.asarray(points[count:][rows])
        expected = np.asarray(candidates.points[: len(added)]) + JITTER_M * jitter[rows]
        np.testing.assert_allclose(added, np.clip(expected, GRID.lower_m, GRID.upper_m), atol=1e-5)


def test_without_candidates_stored_anchors_lend_their_places():
    r = np.random.default_rng(0)
    weights = {
        "lifted": jnp.asarray(r.normal(0, 1, (M, 25)), jnp.float32),
        "stored": jnp.asarray(r.normal(0, 1, (5, 28)), jnp.float32),
    }
    logits = jnp.zeros((1, 2, 3, EMPTY + 1)).at[..., EMPTY].set(9.0)
    lifted = jax.jit(lift)(weights, logits, jnp.eye(4)[None], jnp.zeros((1, 2, 3)), jnp.zeros((M, 3)))
    assert lifted.candidates == 0
    places = means_m(weights["stored"])[jnp.arange(M) % 5]
    np.testing.assert_allclose(means_m(lifted.anchors[:M]), places, atol=1e-3)
    np.testing.assert_array_equal(lifted.anchors[M:], weights["stored"])


def test_the_likeliest_depth_needs_no_draw():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 1, (1, 4, 5, EMPTY + 1)), jnp.float32)
    bins, is_kept = jax.jit(choose_bins, static_argnames="mode")(logits, jnp.zeros((1, 4, 5)), mode="argmax")
    np.testing.assert_array_equal(bins, logits.argmax(-1))
    assert is_kept.all()


def test_draws_follow_from_the_token_and_their_number():
    variant = VARIANTS["gs6400"]
    draws = draws_for("a" * 32, 0, variant)
    assert draws.u.shape == (6, 108, 200) and draws.jitter.shape == (4000, 3)
    assert draws.u.min() >= 0 and draws.u.max() < 1
    assert abs(draws.u.mean() - 0.5) < 0.01 and abs(draws.jitter.std() - 1) < 0.02
    np.testing.assert_array_equal(draws.u, draws_for("a" * 32, 0, variant).u)
    for token, index in (("b" * 32, 0), ("a" * 32, 1)):
        assert (draws_for(token, index, variant).u != draws.u).mean() > 0.9
    # Written down, so that files made by other versions can be told apart from those of this one.
    np.testing.assert_allclose(draws.u[0, 0, :2], (0.0173720121, 0.1981738210), rtol=1e-6)
