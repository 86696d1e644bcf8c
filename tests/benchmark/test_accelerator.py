"""The accelerator's benchmark tells kernels apart, has a batch to train on, and leaves out what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.benchmark import accelerator
from occjax.benchmark.kernels import kind_of, shares_by_kind
from occjax.benchmark.random_batch import random_batch
from occjax.benchmark.random_step import parts_to_leave_out
from occjax.models import layers, view_transform
from occjax.models.depth_net import grid_from_cam


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16", "convolutions"),
        ("nvjet_gemm_128x64", "products"),
        ("input_scatter_fusion_3", "scatters"),
        ("loop_gather_fusion", "gathers"),
        ("input_reduce_fusion_12", "reductions"),
        ("loop_add_fusion", "loops over elements"),
        ("MemcpyH2D", "copies and transposes"),
        ("something else", "other"),
    ],
)
def test_kernels_by_name(kernel, kind):
    assert kind_of(kernel) == kind


def test_shares_add_up_and_the_largest_is_first():
    shares = shares_by_kind([("sort", 1.0), ("gemm", 2.0), ("other sort", 1.0), ("loop_fusion", 4.0)])
    assert list(shares.items()) == [("loops over elements", 0.5), ("sorts", 0.25), ("products", 0.25)]


def test_random_cameras_look_around_the_car():
    batch = random_batch(accelerator.small_config(), 2)
    rotation, translation = grid_from_cam(batch.rig)
    ahead = np.asarray(rotation)[0, :, :, 2]  # [N, 3] optical axes in the frame of the grid
    assert np.abs(ahead[:, 2]).max() < 0.05 and np.abs(np.asarray(translation)).max() < 3
    assert ahead[0, 1] > 0.99 and ahead[3, 1] < -0.99  # front and back, along y of the LiDAR


def test_a_part_that_is_left_out_is_gone_and_back_afterwards():
    config = accelerator.small_config()

    def splat(context):
        weights, cells = jnp.ones((1, 2, 2, 2, 3)), jnp.zeros((1, 2, 2, 2, 3), jnp.int32)
        return view_transform.splat(context, weights, cells, 5)

    context = jnp.ones((1, 2, 2, 2, 4))
    # Traced anew each time: jax would remember what it saw before.
    with parts_to_leave_out()["splat"](config):
        without = str(jax.make_jaxpr(lambda x: splat(x))(context))
        assert splat(context).shape == (1, 5, 4)
    assert "sort" in str(jax.make_jaxpr(lambda x: splat(x))(context)) and "sort" not in without
    norm = layers.BatchNorm(3)
    with parts_to_leave_out()["BatchNorm's statistics"](config):
        np.testing.assert_array_equal(norm(jnp.full((2, 3), 7.0), train=True), np.full((2, 3), 7.0))
    np.testing.assert_array_equal(norm(jnp.full((2, 3), 7.0), train=True), np.zeros((2, 3)))
    weights, distill = config.loss.weights(), config.loss.distill
    for name in ("Lovász", "affinity", "distillation"):
        with parts_to_leave_out()[name](config):
            assert config.loss.weights() != weights or not config.loss.distill.is_on
        assert config.loss.weights() == weights and config.loss.distill is distill


@pytest.mark.slow
def test_the_whole_command_small(capsys):
    assert accelerator.main(["--small", "--minutes=30"]) == 0
    said = capsys.readouterr().out
    assert "2 passed" in said and "p99" in said and "bit-equal" in said
    for name in ("bfloat16, batch 1", "float32, batch 2", "Lovász", "splat", "skipped, no --data-root"):
        assert name in said
