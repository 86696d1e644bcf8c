"""Every stage against numbers of the published modules with random weights; see the specification's unit goldens.

What needs the matrices of real cameras is in test_units_cameras.py.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from teacher_goldens import channels_first, channels_last, unit, unit_weights
from teacher_recipe import recipe_value, shapes_of_lines

from occjax.grid import VoxelGrid
from occjax.targets.column_rule import topmost_distribution
from occjax.teacher import weight_tables as tables
from occjax.teacher.anchors import (
    Gaussians,
    embed_anchors,
    gaussians_of_anchors,
    logit,
    means_m,
    own_from_lidar,
    sigmoid,
)
from occjax.teacher.checkpoint import round_backbone
from occjax.teacher.deformable_conv import deformable_conv, sample_and_convolve
from occjax.teacher.farthest_points import farthest_points
from occjax.teacher.feed_forward import feed_forward
from occjax.teacher.layers import conv
from occjax.teacher.necks import depth_features, feature_pyramid
from occjax.teacher.refinement import refine
from occjax.teacher.resnet import resnet
from occjax.teacher.splat import logits, probabilities
from occjax.teacher.submanifold_conv import find_neighbours, submanifold_block, submanifold_conv
from occjax.teacher.variants import VARIANTS

V2, V1, SOLID = VARIANTS["gs6400"], VARIANTS["gs144000"], VARIANTS["gs25600_solid"]
close = partial(np.testing.assert_allclose, rtol=0, atol=5e-5)


def test_clipped_sigmoid_and_logit():
    golden = unit("safe")
    close(sigmoid(jnp.asarray(golden["x"])), golden["sg"])
    # Wider: entries at the clip.
    close(logit(jnp.asarray(golden["p"])), golden["lgt"], atol=1e-3)


def test_rotation_of_any_quaternion():
    golden = unit("rotation")
    close(own_from_lidar(jnp.asarray(golden["q"])), golden["Rm"])


def test_deformable_conv():
    golden = unit("dcn")
    kernel = np.moveaxis(golden["param.weight"].reshape(6, 8, 9), (0, 1, 2), (2, 1, 0))
    weights = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(6)}
    offset = unit_weights(golden, tables.conv("param.conv_offset", 8, 27, 3))
    x = channels_last(golden["x"])
    placement = conv(offset, x, padding=1)
    close(channels_first(placement), golden["offset_out"])
    close(channels_first(jax.jit(sample_and_convolve)(weights, x, placement)), golden["y"])
    close(channels_first(jax.jit(deformable_conv)(weights, offset, x)), golden["y"])


@pytest.fixture(scope="module")
def small_resnet():
    """Its weights and its input."""
    golden = unit("resnet")
    arrays = {
        key: recipe_value(f"unit.resnet.{key}", shape, 7) for key, shape in shapes_of_lines(golden["keys"]).items()
    }
    weights = unit_weights(arrays, tables.resnet("", (3, 4, 6, 3), 4, (4, 8, 16, 32)))
    return weights, channels_last(golden["x"])


@pytest.fixture(scope="module")
def small_maps(small_resnet):
    """C2 to C5."""
    return jax.jit(resnet)(*small_resnet)


def test_resnet(small_maps):
    golden = unit("resnet")
    for name, x in zip(("C2", "C3", "C4", "C5"), small_maps, strict=True):
        close(channels_first(x), golden[name])


def test_resnet_in_bfloat16_is_the_same_but_for_rounding(small_resnet, small_maps):
    weights, x = small_resnet
    rounded = round_backbone(weights, "bfloat16")
    for exact, found in zip(small_maps, jax.jit(resnet)(rounded, x), strict=True):
        assert found.dtype == np.float32
        error = np.sqrt(np.square(found - exact).mean() / np.square(exact).mean())
        assert 1e-4 < error < 0.03


def test_feature_pyramid_with_odd_sizes(small_maps):
    golden = unit("fpn")
    arrays = {key: recipe_value(f"unit.fpn.{key}", shape, 7) for key, shape in shapes_of_lines(golden["keys"]).items()}
    weights = unit_weights(arrays, tables.feature_pyramid("", (16, 32, 64, 128), 8))
    for name, x in zip(("P3", "P4", "P5", "P6"), jax.jit(feature_pyramid)(weights, small_maps), strict=True):
        close(channels_first(x), golden[name])


def test_depth_features():
    golden = unit("secondfpn")
    weights = unit_weights(golden, tables.second_fpn("param.", (8, 12, 16, 20), 6))
    maps = tuple(channels_last(golden[f"x{i}"]) for i in range(4))
    close(channels_first(jax.jit(depth_features)(weights, maps)), golden["y"])


def test_farthest_points():
    golden = unit("fps")
    x = jnp.asarray(golden["x"])
    chosen = jax.jit(farthest_points, static_argnums=2)(x, jnp.ones(len(x), bool), 100)
    np.testing.assert_array_equal(chosen, golden["idx"])
    # What is not valid is as if it were not there.
    padded = jnp.concatenate([x, 100 * jnp.ones((30, 3))])
    chosen = jax.jit(farthest_points, static_argnums=2)(padded, jnp.arange(530) < 500, 100)
    np.testing.assert_array_equal(chosen, golden["idx"])


@pytest.mark.parametrize(("name", "variant"), [("anchor_encoder", V2), ("anchor_encoder_noopa", V1)])
def test_anchor_embedding(name, variant):
    golden = unit(name)
    weights = unit_weights(golden, tables.embedding("param.", variant, 16))
    close(jax.jit(embed_anchors)(weights, jnp.asarray(golden["anchor"][0])), golden["y"][0])


@pytest.mark.parametrize(("name", "variant"), [("ffn_prob", V2), ("ffn_v1", V1)])
def test_feed_forward(name, variant):
    golden = unit(name)
    weights = unit_weights(golden, tables.feed_forward("param", variant, 16))
    close(feed_forward(weights, jnp.asarray(golden["x"][0])), golden["y"][0])


@pytest.mark.parametrize(("name", "variant"), [("refine_v2", V2), ("refine_v1_144000", V1), ("refine_v1_solid", SOLID)])
def test_refinement(name, variant):
    golden = unit(name)
    weights = unit_weights(golden, tables.refinement("param", channels=16))
    x, embedding, anchors = (jnp.asarray(golden[key][0]) for key in ("x", "embed", "anchor"))
    refined = jax.jit(refine, static_argnums=4)(weights, x, embedding, anchors, variant)
    close(refined, golden["anchor_out"][0], atol=1e-3)
    gaussians = gaussians_of_anchors(refined, variant)
    close(gaussians.means, golden["means"][0], atol=2e-5)
    for field in ("scales", "rotations", "semantics"):
        close(getattr(gaussians, field), golden[field][0])
    # Without opacities they are 1.
    close(gaussians.opacities, golden["opacities"][0, :, 0] if variant.has_opacity else 1)


@pytest.mark.parametrize("name", ["subm_dup", "subm_unique"])
def test_submanifold_conv(name):
    golden, shared = unit(name), unit("subm_dup")
    arrays = {"param.weight": shared["weight"], "param.bias": shared["bias"]}
    kernel = np.moveaxis(arrays["param.weight"], 0, -1).reshape(125, 12, 10)
    weights = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(arrays["param.bias"])}
    neighbours = find_neighbours(jnp.asarray(golden["pos"]), tuple(golden["shape"].tolist()))
    close(jax.jit(submanifold_conv)(weights, jnp.asarray(golden["x"]), neighbours), golden["y"])


@pytest.mark.parametrize("rule", ["cpu_first", "cpu_last", "one_of"])
def test_what_becomes_of_gaussians_that_share_a_cell(rule):
    """By the formula, Gaussian by Gaussian and tap by tap."""
    r = np.random.default_rng(0)
    shape, cells = (3, 2, 2), r.integers(0, (3, 2, 2), (20, 3))
    x, kernel = r.normal(size=(20, 2)), r.normal(size=(125, 2, 3))
    in_cell: dict[tuple, list[int]] = {}
    for number, cell in enumerate(cells.tolist()):
        in_cell.setdefault(tuple(cell), []).append(number)
    stands = {cell: them[-1 if rule == "cpu_last" else 0] for cell, them in in_cell.items()}
    assert max(map(len, in_cell.values())) > 2 and len(in_cell) < 12
    wanted = np.zeros((20, 3))
    for number, cell in enumerate(cells.tolist()):
        for tap, offset in enumerate(np.ndindex(5, 5, 5)):
            other = tuple(np.add(cell, offset) - 2)
            if tap == 62:
                wanted[number] += x[number] @ kernel[tap]
            elif other in in_cell and tap > 62:
                wanted[number] += x[stands[other]] @ kernel[tap]
            elif other in in_cell and number == stands[tuple(cell)]:
                summed = [stands[other]] if rule == "one_of" else in_cell[other]
                wanted[number] += x[summed].sum(0) @ kernel[tap]
    neighbours = find_neighbours(jnp.asarray(cells), shape, rule)
    found = submanifold_conv({"kernel": jnp.asarray(kernel, jnp.float32)}, jnp.float32(x), neighbours, rule)
    close(found, wanted)


@pytest.mark.parametrize(("name", "variant"), [("spconv_block", V2), ("spconv_v1", V1)])
def test_submanifold_block(name, variant):
    golden = unit(name)
    weights = unit_weights(golden, tables.submanifold_block("param", variant, 6))
    means = means_m(jnp.asarray(golden["anchor"][0]))
    run = jax.jit(submanifold_block, static_argnums=3)
    close(run(weights, jnp.asarray(golden["x"][0]), means, variant.cell_m), golden["y"][0])


def splat_inputs(semantics=None):
    golden = unit("splat")
    grid = VoxelGrid("lidar", tuple(golden["lo"].tolist()), 0.5, tuple(golden["grid"].tolist()))
    fields = {name: jnp.asarray(golden[name]) for name in ("means", "scales", "rotations", "semantics")}
    gaussians = Gaussians(**fields, opacities=jnp.asarray(golden["opacities"][:, 0]))
    return gaussians if semantics is None else gaussians._replace(semantics=jnp.asarray(semantics)), grid


@pytest.mark.parametrize(("name", "every", "per_axis"), [("splat_prob", 2, False), ("splat_fast", 4, True)])
def test_probabilities(name, every, per_axis):
    golden, (gaussians, grid) = unit(name), splat_inputs()
    found = jax.jit(partial(probabilities, variant=V2, grid=grid, per_axis=per_axis))(gaussians)
    values = np.asarray(found.values).reshape(-1, 18)
    close(values[::every], golden["P"])
    close(np.ravel(found.density), golden["density"])
    np.testing.assert_array_equal(values.argmax(-1), golden["argmax"])
    if "pi" in golden:
        semantics = np.asarray(found.semantics).reshape(-1, 17)
        close(semantics[::4], golden["pi"][:, :17])
        assert not golden["pi"][:, 17].any()


@pytest.mark.parametrize("name", ["splat_v1", "splat_v1_empty"])
def test_sums_of_version_1(name):
    golden = unit(name)
    empty = golden.get("empty_scalar")
    gaussians, grid = splat_inputs(golden["semantics18" if empty is None else "semantics"])
    # Wide enough for the unit's Gaussians.
    variant = dataclasses.replace(V1 if empty is None else SOLID, scale_range_m=(0.01, 3.2))
    if empty is None:
        gaussians = gaussians._replace(opacities=jnp.ones(len(gaussians.means)))
    else:
        empty = jnp.asarray(empty[0])
    values = jax.jit(partial(logits, variant=variant, grid=grid))(gaussians, empty_value=empty)
    values = np.asarray(values).reshape(-1, 18)
    close(values[::4], golden["logits"])
    # The goldens are float64's: in float32 what is below 1e-38 is nothing. The first of equals is class 0.
    is_something = values.any(-1)
    assert is_something.mean() > 0.5
    np.testing.assert_array_equal(values.argmax(-1)[is_something], golden["argmax"][is_something])


def test_topmost_distribution():
    golden = unit("bev_top")
    close(jax.jit(partial(topmost_distribution, xp=jnp))(jnp.asarray(golden["P"])), golden["B"])
