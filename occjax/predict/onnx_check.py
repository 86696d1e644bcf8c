"""ONNX model against TensorRT's support matrix: every operator, type and restriction that does not lie within it."""

import importlib
from collections import Counter
from typing import Any

from occjax.predict.tensorrt_operators import ATTRIBUTES, CONSTANT_INPUTS, OPERATORS, OPSETS, POOLS

_TYPES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP64"}


def operators_of(model: Any) -> dict[str, int]:
    """How often a model (`onnx.ModelProto`) uses each operator."""
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def tensorrt_problems(model: Any) -> list[str]:
    """What TensorRT 10.0 would not take of an `onnx.ModelProto` with inferred shapes, in words; none if all is well."""
    onnx = importlib.import_module("onnx")
    graph = model.graph
    problems = []
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            problems.append(f"operators of domain {opset.domain}")
        elif not OPSETS[0] <= opset.version <= OPSETS[1]:
            problems.append(f"opset {opset.version}, not {OPSETS[0]} to {OPSETS[1]}")
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    outside = {value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        where = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            problems.append(f"{where}: no such operator")
            continue
        allowed = OPERATORS[node.op_type]
        # The condition of Where is no data, nor is the shape of a constant.
        data = node.input[1] if node.op_type == "Where" else next(iter(node.input), None)
        data = node.output[0] if node.op_type == "ConstantOfShape" else data
        kind = types.get(data) if data is not None else None
        if kind:
            name = onnx.TensorProto.DataType.Name(kind)
            if _TYPES.get(name, name) not in allowed:
                problems.append(f"{where}: {name} data, not {', '.join(allowed)}")
        for name in (*node.input, *node.output):
            if types.get(name) == onnx.TensorProto.UINT8 and name not in outside:
                problems.append(f"{where}: UINT8 inside of the network")
        for place in CONSTANT_INPUTS.get(node.op_type, ()):
            if len(node.input) > place and node.input[place] and node.input[place] not in constants:
                problems.append(f"{where}: input {place} is no constant")
        problems += [f"{where}: {text}" for text in _attribute_problems(node)]
    return problems


def _attribute_problems(node: Any) -> list[str]:
    onnx = importlib.import_module("onnx")
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    found = [
        f"{name}={values[name]}"
        for (operator, name), allowed in ATTRIBUTES.items()
        if operator == node.op_type and name in values and values[name] not in allowed
    ]
    if node.op_type in POOLS:
        if len(values.get("kernel_shape", ())) not in (2, 3):
            found.append(f"a pool over {len(values.get('kernel_shape', ()))} axes")
        if any(d != 1 for d in values.get("dilations", ())):
            found.append(f"dilations={list(values['dilations'])}")
        if node.op_type == "MaxPool" and len(node.output) > 1:
            found.append("the output Indices")
    return found
