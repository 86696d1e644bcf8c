"""ONNX Runtime computes an 8-bit model in 8 bits, with the numbers that the file says."""

import platform

import numpy as np
import pytest

from occjax.predict.onnx_runtime import onnx_session, with_unsigned_activations
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


def test_the_numbers_stay(packages, models):
    _, runtime = packages
    plain, int8, image = models
    assert with_unsigned_activations(plain) == plain
    signed, unsigned = (
        as_written(runtime, model).run(None, {"images": image})[0] for model in (int8, with_unsigned_activations(int8))
    )
    np.testing.assert_array_equal(signed, unsigned)
    # Sums of whole numbers, but for the rounding of borders: at most a step of the outputs' 8 bits.
    (found,) = onnx_session(int8).run(None, {"images": image})
    assert np.abs(found - signed).max() <= 2.01 * np.abs(signed).max() / 127
    assert np.abs(found - signed).mean() <= 0.002 * np.abs(signed).max()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere signed bytes are as fast")
def test_no_convolution_is_left_in_float32(packages, models, tmp_path):
    onnx, runtime = packages
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    runtime.InferenceSession(with_unsigned_activations(models[1]), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3 and "Conv" not in kinds


def test_a_zero_point_other_than_zero_is_left_alone(packages, models):
    onnx, _ = packages
    model = onnx.load_from_string(models[1])
    (first,) = (node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.int8(3), "three"))
    for node in model.graph.node:
        if node is first or node.input[0] == first.output[0]:
            node.input[2] = "three"
    found = onnx.load_from_string(with_unsigned_activations(model.SerializeToString()))
    assert [node.input[2] for node in found.graph.node if node.name == first.name] == ["three"]
