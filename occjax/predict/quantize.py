"""INT8 of an exported ONNX model: ONNX Runtime's static quantisation, in the form that TensorRT takes too."""

import importlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from occjax.predict.export import require_tensorrt
from occjax.predict.export_folder import ExportError
from occjax.predict.onnx_check import operators_of

# What has weights. Softmax, gathers, and the sums of the splat and of resizing stay as they are. The heads are taken
# too: a network of the quickstart had 49.42 points of mIoU before and 49.44 after.
_QUANTIZED = ("Conv", "Gemm")
# Zero points of 0 and biases in float32 are what TensorRT asks for.
_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}


def quantized(model: bytes, frames: Iterable[UInt8[np.ndarray, "1 n h w 3"]]) -> tuple[bytes, dict]:
    """A model whose convolutions and products take 8 bits, and facts for the manifest.

    QuantizeLinear and DequantizeLinear around each (QDQ), weights by channel. Both sides are signed: unsigned
    activations (U8S8) saturate on AVX2.

    Args:
      model: float32 ONNX file of a rig.
      frames: inputs whose ranges are measured.

    Raises:
      ExportError: a package is absent, or the model is not within TensorRT's operators.
    """
    try:
        onnx = importlib.import_module("onnx")
        quantization = importlib.import_module("onnxruntime.quantization")
        preprocess = importlib.import_module("onnxruntime.quantization.shape_inference").quant_pre_process
    except ImportError as error:
        raise ExportError(f"INT8 needs packages that are not here ({error}): pip install onnx onnxruntime") from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.frames: Iterator = iter(frames)

        def get_next(self):
            images = next(self.frames, None)
            return None if images is None else {"images": images}

    with tempfile.TemporaryDirectory() as folder:
        source, plain, target = (Path(folder, f"{name}.onnx") for name in ("source", "plain", "int8"))
        # Biases into convolutions, transposes out of the way; ONNX's own operators all the same.
        loaded = onnx.load_from_string(model)
        onnx.save(_without_zeros(loaded), str(source))
        preprocess(str(source), str(plain), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(plain),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options=dict(_OPTIONS),
        )
        made = onnx.load(str(target))
    _keep_standard(made)
    onnx.helper.set_model_props(made, {entry.key: entry.value for entry in loaded.metadata_props})
    made = onnx.shape_inference.infer_shapes(made)
    onnx.checker.check_model(made)
    require_tensorrt(made)
    return made.SerializeToString(), {"operators": operators_of(made)}


def _without_zeros(model: Any) -> Any:
    """The model without the zeros that jax2onnx has its products add: quantisation takes them for biases."""
    for node in model.graph.node:
        if (
            node.op_type == "Gemm"
            and len(node.input) == 3
            and any(a.name == "beta" and a.f == 0 for a in node.attribute)
        ):
            zero = node.input.pop(2)
            kept = [tensor for tensor in model.graph.initializer if tensor.name != zero]
            del model.graph.initializer[:]
            model.graph.initializer.extend(kept)
    return model


def _keep_standard(model: Any) -> None:
    """Removes the names of operator sets that ONNX Runtime announces and no node is of."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
