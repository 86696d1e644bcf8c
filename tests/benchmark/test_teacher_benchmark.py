"""What the teacher's benchmark counts and makes up."""

import jax
import jax.numpy as jnp
import numpy as np

from occjax.benchmark.flops import work_of
from occjax.benchmark.teacher import mean_kl, random_arrays, rig_matrices
from occjax.teacher.checkpoint import list_problems
from occjax.teacher.deformable_aggregation import project
from occjax.teacher.preprocess import cropped_from_lidar
from occjax.teacher.variants import VARIANTS
from occjax.teacher.weight_parts import entries
from occjax.teacher.weight_tables import teacher


def test_work_by_hand():
    a, b = jnp.zeros((3, 4)), jnp.zeros((4, 5))
    assert work_of(jnp.matmul, a, b).flops == 2 * 3 * 4 * 5
    image, kernel = jnp.zeros((1, 6, 8, 3)), jnp.zeros((3, 3, 3, 7))

    def convolve(x, k):
        return jax.lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert work_of(convolve, image, kernel).flops == 2 * 3 * 4 * 7 * 27
    read = work_of(jax.jit(lambda x, i: x[i]), b, jnp.array([1, 1, 3]))
    assert read.gathered_bytes == 3 * 5 * 4 and read.flops == 0

    def loop(x):
        return jax.lax.scan(lambda total, _: (total + (x @ b).sum(), None), 0.0, None, length=6)[0]

    assert work_of(loop, a).flops == 6 * 2 * 3 * 4 * 5


def test_random_weights_are_a_checkpoint_and_the_rig_looks_around():
    variant = VARIANTS["gs25600_solid"]
    arrays = random_arrays(variant)
    assert list_problems(arrays, dict(entries(teacher(variant))), {}).count("unexpected") > 0  # the buffers
    points = 20 * jnp.array([[[0, 1, 0], [1, 0.6, 0], [-1, 0.6, 0], [0, -1, 0], [-1, -0.3, 0], [1, -0.3, 0]]])
    views = project(points.astype(jnp.float32), jnp.asarray(cropped_from_lidar(rig_matrices())))
    # Each camera sees the point before it.
    assert np.asarray(views.is_visible[0]).diagonal().all()
    assert np.asarray(views.is_visible.sum(-1)).max() <= 2


def test_divergence_by_hand():
    p, q = jnp.full((1, 1, 1, 18), 1 / 18), jnp.zeros((1, 1, 1, 18)).at[..., 0].set(1.0)
    for name, exact, rounded in (("gs6400", p, q), ("gs144000", jnp.log(p), jnp.log(jnp.maximum(q, 1e-6)))):
        expected = np.log(1 / 18) - 17 / 18 * np.log(1e-6)
        np.testing.assert_allclose(mean_kl(VARIANTS[name], exact, rounded), expected, rtol=1e-4)
