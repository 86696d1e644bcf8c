"""A checkpoint of a small ResNet as torchvision names it, written without torch."""

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict
from torch_files import tensor, write

from occjax.convert.torch_names import resnet_entries
from occjax.models.resnet import ResNet
from occjax.models.student import split_student


def resnet_file(path, config, change=None):
    """A zip checkpoint with torchvision's names for a small ResNet; returns the numpy arrays in it."""
    _, params, stats = split_student(nnx.eval_shape(lambda: ResNet(config, rngs=nnx.Rngs(0))))
    shapes = {**flatten_dict(params), **flatten_dict(stats)}
    r, arrays = np.random.default_rng(0), {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.ones(2, np.float32)}
    for entry in resnet_entries(config):
        arrays[entry.theirs] = r.random(entry.their_shape(shapes[entry.ours].shape)).astype(np.float32)
    arrays["bn1.num_batches_tracked"] = np.array(3, np.float32)
    (change or (lambda arrays: None))(arrays)
    content = {}
    for key, value in arrays.items():
        strides = tuple(s // value.itemsize for s in value.strides)
        content[key] = tensor(key, value.shape, strides)
    write(path, content, arrays)
    return arrays
