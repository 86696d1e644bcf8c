"""ONNX Runtime on the processor: sessions of exported models, 8-bit ones in the spelling that it is fast with."""

import importlib
import platform
from typing import Any

import numpy as np

from occjax.predict.export_folder import ExportError
from occjax.system.cpu import processor_facts


def onnx_session(model: bytes) -> Any:
    """ONNX Runtime's session of a model, on the CPU.

    Raises:
      ExportError: ONNX Runtime is not installed.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ExportError(f"to run ONNX takes onnxruntime ({error}): pip install onnxruntime") from error
    # Elsewhere signed bytes are as fast.
    if platform.machine() in ("x86_64", "AMD64"):
        has_vnni = "vnni" in processor_facts().get("flags", "")
        # Without VNNI, sums of unsigned by signed bytes saturate.
        model = with_unsigned_bytes(model, weights=not has_vnni)
    return runtime.InferenceSession(model, providers=["CPUExecutionProvider"])


def with_unsigned_bytes(model: bytes, *, weights: bool) -> bytes:
    """The same model with 0 to 255 in place of -128 to 127, zero points moved along: no number changes.

    TensorRT takes signed bytes only. ONNX Runtime's fast kernels for x86 take unsigned activations, into which it
    turns a model on loading, but for those that several nodes read; and a convolution between both kinds is computed
    in float32. Of float32's time a frame of configs/realtime.py took 0.94, 0.66 and 0.63 so in three runs (AVX-512
    with VNNI), 1.28, 0.91 and 0.87 as loaded, 1.19, 0.96 and 0.93 with `weights`.

    Args:
      model: ONNX file; one without 8 bits comes back as it is, and so does any where the package onnx is absent.
      weights: turn these too.
    """
    if b"QuantizeLinear" not in model:
        return model
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        return model
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    quantized = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    turned: set[str] = set()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] in quantized):
            turned.update(node.input[2:])
        elif node.op_type == "DequantizeLinear" and weights:
            turned.update((node.input[0], *node.input[2:]))
    for tensor in graph.initializer:
        if tensor.name in turned and tensor.data_type == onnx.TensorProto.INT8:
            values = onnx.numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.uint8), tensor.name))
    # Types of what lies between are inferred again on loading.
    del graph.value_info[:]
    return loaded.SerializeToString()
