"""The lines that call the stages: what they hand on, and what they refuse. With weights: test_full_size.py."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from occjax.errors import UserError
from occjax.teacher import teacher as module
from occjax.teacher.draws import draws_for
from occjax.teacher.lifter import Lifted
from occjax.teacher.teacher import ImageFeatures, Teacher
from occjax.teacher.variants import VARIANTS

VARIANT = VARIANTS["gs144000"]


@pytest.fixture
def stub(monkeypatch, request):
    """A teacher without stages, whose key points are seen by up to two cameras, or `request.param`; what stages got."""
    seen, most = [], getattr(request, "param", 2)

    def encode(operations, weights, embedding, state, scene, *, variant, cameras_per_point):
        seen.append((operations, scene.cropped_from_lidar, cameras_per_point))
        return state._replace(most_cameras=jnp.int32(most))

    values = jnp.full((2, 2, 2, 18), 1e-8)
    monkeypatch.setattr(module, "encode", encode)
    monkeypatch.setattr(module, "voxelize", lambda anchors, empty, *, variant: (values, values[..., 0]))
    anchors = {"stored": jnp.zeros((4, 28)), "features": jnp.zeros((4, 8))}
    params = {"anchors": anchors, "stages": ((),) * 4, "embedding": ()}
    return Teacher(VARIANT, params), seen


@pytest.mark.parametrize(("stub", "rooms"), [(2, [2] * 4), (3, [2] * 4 + [3] * 4)], indirect=["stub"])
def test_where_more_cameras_see_a_point_all_stages_run_again_with_room_for_them(stub, rooms):
    teacher, seen = stub
    inputs = ImageFeatures((), None), np.tile(np.eye(4), (6, 1, 1)), draws_for("a", 0, VARIANT)
    assert teacher.occupancy(*inputs).candidates is None
    assert [room for _, _, room in seen] == rooms


def test_stages_run_in_order_on_matrices_of_the_cropped_images(stub):
    teacher, seen = stub
    matrices = np.tile(np.eye(4), (6, 1, 1))
    output = teacher.occupancy(ImageFeatures((), None), matrices, draws_for("a", 0, VARIANT))
    assert [operations for operations, _, _ in seen] == list(VARIANT.stages)
    # 36 rows are cut off: at depth 1 a point lies 36 pixels higher.
    np.testing.assert_array_equal(seen[0][1][0] @ np.array([5.0, 100.0, 1.0, 1.0]), [5, 64, 1, 1])
    # What files are made from has half precision; what several draws are averaged in has not.
    assert output.values.dtype == np.float16 and not np.asarray(output.values).any()
    np.testing.assert_allclose(output.values_float32, 1e-8)


def test_points_are_lifted_as_the_teacher_was_told(stub, monkeypatch):
    teacher, encoded = stub
    asked = []

    def lift_anchors(weights, logits, lidar_from_cropped, u, jitter, *, mode):
        asked.append((mode, lidar_from_cropped))
        return Lifted(jnp.zeros((4, 28)), jnp.int32(7))

    monkeypatch.setattr(module, "lift_anchors", lift_anchors)
    matrices = np.random.default_rng(0).normal(size=(6, 4, 4))
    argmax = dataclasses.replace(teacher, depth_mode="argmax")
    output = argmax.occupancy(ImageFeatures((), jnp.zeros(1)), matrices, draws_for("a", 0, VARIANT))
    ((mode, inverse),) = asked
    assert mode == "argmax" and output.candidates == 7
    np.testing.assert_allclose(inverse @ encoded[0][1], np.tile(np.eye(4), (6, 1, 1)), atol=1e-3)


def test_images_of_another_size_are_refused(stub):
    teacher, _ = stub
    with pytest.raises(UserError, match="900 x 1600 x 3; found 864 x 1600 x 3"):
        teacher.image_features(np.zeros((6, 864, 1600, 3), np.uint8))
