"""ONNX Runtime on the processor: sessions of exported models, 8-bit ones in the spelling that it is fast with."""

import importlib
from typing import Any

from occjax.predict.export_folder import ExportError

_MIDDLE = "occjax_middle_of_unsigned"


def onnx_session(model: bytes) -> Any:
    """ONNX Runtime's session of a model, on the CPU.

    Raises:
      ExportError: ONNX Runtime is not installed.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ExportError(f"to run ONNX takes onnxruntime ({error}): pip install onnxruntime") from error
    options = runtime.SessionOptions()
    # Without VNNI, sums of unsigned by signed bytes saturate: weights become unsigned there too.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return runtime.InferenceSession(with_unsigned_activations(model), options, providers=["CPUExecutionProvider"])


def with_unsigned_activations(model: bytes) -> bytes:
    """The same model with activations of 0 to 255 around 128 where they were of -128 to 127 around 0.

    TensorRT takes signed ones only. ONNX Runtime has its fast kernels for unsigned ones and rewrites on loading, but
    leaves out what several nodes read; a convolution between both kinds is computed in float32. The numbers stay.
    A model without 8 bits comes back as it is, and so does any where the package onnx is absent.
    """
    if b"QuantizeLinear" not in model:
        return model
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        return model
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    zeros = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and not onnx.numpy_helper.to_array(tensor).any()
    }
    quantized = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        is_activation = node.op_type == "QuantizeLinear" or (
            node.op_type == "DequantizeLinear" and node.input[0] in quantized
        )
        if is_activation and node.input[2] in zeros:
            node.input[2] = _MIDDLE
    graph.initializer.append(onnx.helper.make_tensor(_MIDDLE, onnx.TensorProto.UINT8, [], [128]))
    # Types of what lies between are inferred again on loading.
    del graph.value_info[:]
    return loaded.SerializeToString()
