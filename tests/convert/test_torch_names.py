"""The name maps are bijective and the layouts invert."""

import jax
import numpy as np
import pytest
from flax import nnx

from occjax.config import BackboneConfig
from occjax.configs import original
from occjax.convert.torch_names import LAYOUTS, Entry, needs_no_counterpart, resnet_entries, student_entries
from occjax.models.resnet import ResNet
from occjax.models.student import Student, split_student


def paths(*trees):
    return {tuple(key.key for key in path) for tree in trees for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_every_array_of_the_student_has_one_name_and_every_name_one_array():
    config = original.get_config()
    _, params, stats = split_student(
        nnx.eval_shape(lambda: Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    )
    entries = student_entries(config.model)
    assert len({e.theirs for e in entries}) == len({e.ours for e in entries}) == len(entries)
    assert {e.ours for e in entries} == paths(params, stats)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_every_array_of_the_backbone(depth):
    config = BackboneConfig(depth=depth)
    _, params, stats = split_student(nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0))))
    entries = resnet_entries(config)
    assert {e.ours for e in entries} == paths(params, stats)
    assert len({e.theirs for e in entries}) == len(entries)
    # Counted on torchvision's models: entries of the state_dict without counters and classifier.
    assert len(entries) == {18: 100, 34: 180, 50: 265}[depth]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_invert(layout):
    shape = {"vector": (5,), "dense": (5, 3), "pointwise": (5, 3, 1, 1)}.get(layout, (5, 3, 2, 4))
    theirs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    entry = Entry(("kernel",), "weight", layout)
    ours = entry.from_torch(theirs)
    np.testing.assert_array_equal(entry.to_torch(ours), theirs)
    assert entry.their_shape(ours.shape) == theirs.shape


def test_axes_by_hand():
    kernel = np.zeros((7, 3, 2, 5), np.float32)  # [out, in, rows, columns]
    kernel[6, 2, 1, 4] = 1
    assert Entry((), "", "image_conv").from_torch(kernel)[1, 4, 2, 6] == 1
    # In BEV their rows are y and their columns x; ours lead with x.
    assert Entry((), "", "bev_conv").from_torch(kernel)[4, 1, 2, 6] == 1


def test_what_needs_no_counterpart():
    assert needs_no_counterpart("a.bn1.num_batches_tracked") and needs_no_counterpart("head.cls_weights")
    assert not needs_no_counterpart("head.predicter.0.weight")
