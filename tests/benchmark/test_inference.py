"""The inference table has a row for every runtime that is here, and names what brings the others."""

import importlib
import re

import jax
import numpy as np
import pytest
from flax import nnx

from occjax.benchmark import inference
from occjax.benchmark.accelerator import small_config
from occjax.benchmark.random_batch import random_batch
from occjax.configs import realtime
from occjax.models.student import Student, split_student
from occjax.predict.export import onnx_model
from occjax.predict.fixed_network import fixed_network
from occjax.predict.images import NetworkInput
from occjax.predict.stored_weights import Weights

ROW = r"  {} +\d+\.\d ms +\d+\.\d ms +\d+\.\d +\d+ MB +\d+"


def subject(config):
    """The configuration, random weights, and a frame."""
    _, params, batch_stats = split_student(Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    batch = random_batch(config, 1)
    return config, Weights(params, batch_stats, 0), NetworkInput(batch.images, batch.rig)


@pytest.fixture(scope="module")
def tiny():
    """A small student with two cameras."""
    config = small_config()
    config.data.cameras = ("CAM_FRONT", "CAM_BACK")
    config.data.image_height, config.data.image_width = 32, 48
    config.model.depth.channels = config.model.head.hidden = 4
    return subject(config)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(inference, "_FRAMES", 1)


def test_what_is_not_installed_is_named_with_its_command(tiny, monkeypatch, caplog):
    caplog.set_level("INFO")

    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    config, _, frame = tiny
    lines = inference.measure_inference(config, frame)
    text = "\n".join(lines)
    assert re.search(ROW.format("XLA, float32"), text), text
    assert re.search(ROW.format("XLA, float32, any rig, batch 1"), text), text
    assert re.search(
        r"ONNX Runtime, float32: left out, .*pip install -U jax flax.*'jax2onnx>=0.17.1' onnx onnxruntime", text
    )
    assert "ONNX Runtime, INT8: left out, it is made of the float32 model above" in text
    assert "making the network ready for ONNX Runtime, INT8" in caplog.text


def test_a_batch_computes_each_of_its_frames(tiny):
    config, weights, frame = tiny
    runtime = inference.xla_batch(config, weights, frame, 2)
    classes, single = runtime.run(), inference.xla(config, weights, frame).run()
    assert classes.shape == (2, *config.grid.shape) and runtime.frames == 2
    np.testing.assert_array_equal(classes[0], classes[1])
    # Sums in another order.
    assert np.mean(classes[0] == single) > 0.999
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves((weights.params, weights.batch_stats)))
    assert runtime.memory_bytes > arrays


@pytest.mark.slow
def test_every_runtime_has_its_row(tiny):
    for package in ("onnx", "onnxruntime", "jax2onnx"):
        pytest.importorskip(package)
    config, _, frame = tiny
    text = "\n".join(inference.measure_inference(config, frame))
    for name in ("XLA, float32", "ONNX Runtime, float32", "ONNX Runtime, INT8"):
        assert re.search(ROW.format(name), text), text
    assert "left out" not in text


@pytest.mark.slow
def test_the_realtime_student_keeps_within_its_means():
    for package in ("onnx", "jax2onnx"):
        pytest.importorskip(package)
    config, weights, frame = subject(realtime.get_config())
    assert 3e6 < sum(leaf.size for leaf in jax.tree.leaves(weights.params)) < 6e6
    # Refused if an operator lies outside of TensorRT's.
    model, facts = onnx_model(fixed_network(config, weights, frame.rig, ("classes", "probabilities", "bev")), {})
    assert "ScatterND" not in facts["operators"] and len(model) < 32e6
