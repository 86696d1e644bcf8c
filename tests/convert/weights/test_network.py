"""A network over keyframes: every device has its own, draws follow the token, averages are taken before rounding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.convert.weights.keyframes import Keyframe
from occjax.convert.weights.network import NetworkPredictor
from occjax.errors import UserError
from occjax.system.mesh import make_mesh
from occjax.teacher.draws import draws_for
from occjax.teacher.outputs import half_precision
from occjax.teacher.teacher import Teacher
from occjax.teacher.variants import VARIANTS


class Said(NamedTuple):
    values: jax.Array
    values_float32: jax.Array
    candidates: int


class Network(Teacher):
    """Says the brightness of the images, which is also its number of points, and its first draw beside it."""

    def image_features(self, images):
        return self.params["gain"] * jnp.asarray(images, jnp.float32).mean()

    def occupancy(self, features, pixel_from_lidar, draws):
        if pixel_from_lidar[0, 0, 0] == 0:
            raise UserError("a key point is seen by 3 cameras")
        if pixel_from_lidar[0, 0, 0] < 0:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nallocator statistics")
        values = jnp.stack([features, jnp.asarray(draws.u[0, 0, 0])]).reshape(1, 1, 1, 2)
        return Said(half_precision(values), values, int(features))


def keyframe(token, *, gray=7, scale=1.0):
    images = np.full((6, 9, 16, 3), gray, np.uint8)
    return Keyframe(token, images, np.tile(np.eye(4) * scale, (6, 1, 1)))


def predictor(draws=1, devices=None):
    return NetworkPredictor(Network(VARIANTS["gs6400"], {"gain": jnp.float32(1)}), make_mesh(devices), draws=draws)


def test_any_number_of_devices_and_any_order_give_the_same():
    tokens = ["a", "b", "c", "d"]
    many, one = predictor(), predictor(devices=jax.devices()[:1])
    assert (many.at_once, one.at_once, many.value_kind) == (len(jax.devices()), 1, "probabilities")
    together = many([keyframe(token, gray=n) for n, token in enumerate(tokens)])
    alone = [one([keyframe(token, gray=n)])[0] for n, token in reversed(list(enumerate(tokens)))]
    np.testing.assert_array_equal(together, alone[::-1])
    assert together[0].dtype == np.float16 and len({values.tobytes() for values in together}) == 4


def test_several_draws_are_averaged_before_they_are_rounded():
    (values,) = predictor(draws=3)([keyframe("a")])
    variant = VARIANTS["gs6400"]
    drawn = [draws_for("a", index, variant).u[0, 0, 0] for index in range(3)]
    assert len(set(drawn)) == 3
    np.testing.assert_allclose(values[0, 0, 0], [7, np.mean(drawn)], rtol=5e-4)


def test_a_sample_that_is_refused_leaves_the_others():
    first, second = predictor()([keyframe("a", scale=0.0), keyframe("b")])
    assert isinstance(first, UserError) and second.shape == (1, 1, 1, 2)


def test_images_that_give_no_point_are_named(caplog):
    dark, bright = predictor()([keyframe("a", gray=0), keyframe("b")])
    assert dark.shape == bright.shape and [record.getMessage()[:9] for record in caplog.records] == ["sample a:"]


def test_a_device_without_memory_ends_the_run_in_one_line():
    with pytest.raises(UserError, match="device failed at sample a: RESOURCE_EXHAUSTED: out of memory; where") as ended:
        predictor()([keyframe("a", scale=-1.0)])
    assert len(str(ended.value).splitlines()) == 1
