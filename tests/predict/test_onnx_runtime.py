"""ONNX Runtime computes an 8-bit model in 8 bits, with the numbers that the file says."""

import platform

import numpy as np
import pytest

from occjax.predict import onnx_runtime
from occjax.predict.onnx_runtime import onnx_session, with_unsigned_bytes
from occjax.predict.quantize import quantized


@pytest.fixture(scope="module")
def packages():
    return pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")


def float_model(onnx) -> bytes:
    """Of uint8 images: a convolution, and two that read what it gives, which are added."""
    make, kinds = onnx.helper.make_node, onnx.TensorProto
    rng = np.random.default_rng(0)
    shapes = {"kernel": (8, 3, 3, 3), "bias": (8,), "left": (16, 8, 3, 3), "right": (16, 8, 1, 1)}
    tensors = [onnx.numpy_helper.from_array(np.float32(rng.normal(size=s)), name) for name, s in shapes.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([1]), "second"))
    nodes = [
        make("Cast", ["images"], ["float"], to=kinds.FLOAT),
        make("Squeeze", ["float", "second"], ["hwc"]),
        make("Transpose", ["hwc"], ["x"], perm=[0, 3, 1, 2]),
        make("Conv", ["x", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"]),
        make("Conv", ["r", "left"], ["l"], pads=[1, 1, 1, 1]),
        make("Conv", ["r", "right"], ["s"]),
        make("Add", ["l", "s"], ["sum"]),
    ]
    images = onnx.helper.make_tensor_value_info("images", kinds.UINT8, [1, 1, 12, 16, 3])
    output = onnx.helper.make_tensor_value_info("sum", kinds.FLOAT, [1, 16, 12, 16])
    graph = onnx.helper.make_graph(nodes, "graph", [images], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def models(packages):
    """The model in float32 and in 8 bits, and an image that it was not calibrated with."""
    frames = np.random.default_rng(1).integers(0, 256, (5, 1, 1, 12, 16, 3)).astype(np.uint8)
    model = float_model(packages[0])
    return model, quantized(model, list(frames[:4]))[0], frames[4]


def as_written(runtime, model: bytes):
    """A session that computes node by node what the file says."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def moved(onnx, model: bytes) -> bytes:
    """The model with another zero point of its images, as a quantiser that is not ours may choose."""
    loaded = onnx.load_from_string(model)
    (name,) = (n.input[2] for n in loaded.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    (tensor,) = (t for t in loaded.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.int8(-100), name))
    return loaded.SerializeToString()


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("zero", [0, -100])
def test_the_numbers_stay(packages, models, zero, weights):
    onnx, runtime = packages
    plain, int8, image = models
    int8 = moved(onnx, int8) if zero else int8
    other = with_unsigned_bytes(int8, weights=weights)
    kinds = {t.name: t.data_type for t in onnx.load_from_string(other).graph.initializer}
    assert (onnx.TensorProto.INT8 in kinds.values()) is not weights and onnx.TensorProto.UINT8 in kinds.values()
    signed, unsigned = (as_written(runtime, model).run(None, {"images": image})[0] for model in (int8, other))
    assert signed.std() > 0
    np.testing.assert_array_equal(signed, unsigned)
    assert with_unsigned_bytes(plain, weights=weights) == plain


def test_a_session_says_what_the_file_says(packages, models):
    _, runtime = packages
    _, int8, image = models
    (wanted,) = as_written(runtime, int8).run(None, {"images": image})
    (found,) = onnx_session(int8).run(None, {"images": image})
    # Sums of whole numbers, rounded to 8 bits now and then elsewhere.
    assert np.abs(found - wanted).max() <= 2.01 * np.abs(wanted).max() / 127
    assert np.abs(found - wanted).mean() <= 0.002 * np.abs(wanted).max()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere signed bytes are as fast")
@pytest.mark.parametrize("weights", [False, True])
def test_no_convolution_is_left_in_float32(packages, models, tmp_path, weights):
    onnx, runtime = packages
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    model = with_unsigned_bytes(models[1], weights=weights)
    runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3 and "Conv" not in kinds


@pytest.mark.parametrize("flags", ["avx2", "avx2 avx512_vnni"])
def test_without_vnni_weights_are_unsigned_too(packages, models, monkeypatch, flags):
    _, runtime = packages
    loaded = []
    monkeypatch.setattr(onnx_runtime, "processor_facts", lambda: {"flags": flags})
    monkeypatch.setattr(onnx_runtime.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(runtime, "InferenceSession", lambda model, providers: loaded.append(model))
    onnx_session(models[1])
    assert loaded == [with_unsigned_bytes(models[1], weights="vnni" not in flags)]
