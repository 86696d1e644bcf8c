"""Export of a student for one rig: ONNX without custom operators, StableHLO, and what they are verified by."""

import importlib
import importlib.util
import io
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from occjax.config import Config
from occjax.models.preprocess import normalize_images
from occjax.models.student import abstract_student, apply_student
from occjax.predict.export_card import facts_of, metadata_of
from occjax.predict.export_folder import MODELS, ExportError, NetworkExport
from occjax.predict.fixed_network import FixedNetwork, agreement, fixed_network, output_of
from occjax.predict.onnx_check import operators_of, tensorrt_problems
from occjax.predict.onnx_runtime import onnx_session
from occjax.predict.rig import Rig
from occjax.predict.stored_weights import Weights
from occjax.types import CameraRig

_log = logging.getLogger(__name__)
OPSET = 20
# Of the voxels, in float32: sums in another order change the class of hardly any.
_LEAST_AGREEMENT = 0.9999
_NEWEST = (
    "make an environment for it: python -m venv export && export/bin/pip install -e . && export/bin/pip install -U jax "
    "flax numpy opencv-python-headless 'jax2onnx>=0.17.1' onnx onnxruntime flatbuffers; pip's own choice beside "
    "nuscenes-devkit's bound on numpy does not work"
)


def make_export(
    config: Config,
    weights: Weights,
    rig: Rig,
    images: np.ndarray,
    camera_rig: CameraRig,
    *,
    formats: tuple[str, ...],
    outputs: tuple[str, ...],
    verify: bool,
) -> NetworkExport:
    """The student of a rig with inputs and outputs to compare with.

    Args:
      config: of the run.
      weights: what it predicts with.
      rig: that the export holds.
      images: uint8 [1, N, H, W, 3] reference input at network size.
      camera_rig: of these images.
      formats: of "onnx" and "stablehlo".
      outputs: some of `occjax.predict.fixed_network.OUTPUTS`.
      verify: run what was exported on the reference input.

    Raises:
      ExportError: a package is absent, the model is not within TensorRT's operators, or it does not agree.
    """
    network = fixed_network(config, weights, camera_rig, outputs)
    wanted = _reference(config, weights, images, camera_rig, outputs)
    facts: dict[str, Any] = {}
    models: dict[str, bytes] = {}
    manifest: dict[str, Any] = {
        "formats": facts,
        "outputs": list(outputs),
        "input": list(network.input_shape),
        "step": weights.step,
        "temperature": weights.temperature,
        "coverage": network.coverage,
        "rig": {
            "cameras": list(rig.cameras),
            "frame": config.grid.frame,
            "pixel_from_cam": camera_rig.pixel_from_cam[0].tolist(),
            "cam_from_grid": camera_rig.cam_from_grid[0].tolist(),
            "input_from_pixel": camera_rig.input_from_pixel[0].tolist(),
        },
        **facts_of(rig, config.grid.build()),
    }
    made = {"onnx": (onnx_model, _run_onnx), "stablehlo": (_stablehlo, _run_stablehlo)}
    for name in formats:
        make, run = made[name]
        _log.info("%s: traced and converted, which takes up to a minute", name)
        models[MODELS[name]], facts[name] = make(network, metadata_of(manifest))
        if verify:
            found = dict(zip(outputs, run(models[MODELS[name]], images), strict=True))
            facts[name]["agreement"] = _require_agreement(name, found, wanted)
            said = ", ".join(f"{100 * share:.4f} % of {output}" for output, share in facts[name]["agreement"].items())
            _log.info("%s: agrees with the student on %s", name, said or "probabilities")
    return NetworkExport(models, {"images": images, **wanted}, manifest)


def _reference(config: Config, weights: Weights, images, rig: CameraRig, outputs) -> dict[str, np.ndarray]:
    """What the student itself says: with its BatchNorm, its rig as an input and its scatter."""
    graph, _, _ = abstract_student(config.model, config.grid.build())

    def forward(params, batch_stats, images, rig):
        predictions, _ = apply_student(graph, params, batch_stats, normalize_images(images), rig, train=False)
        return {name: output_of(predictions.voxel_logits[0], name, weights.temperature) for name in outputs}

    return jax.tree.map(np.asarray, jax.jit(forward)(weights.params, weights.batch_stats, images, rig))


def _require_agreement(name: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of voxels and of columns with the student's class, by output."""
    shares = {output: agreement(found[output], wanted[output]) for output in ("classes", "bev") if output in wanted}
    for output, share in shares.items():
        if share < _LEAST_AGREEMENT:
            raise ExportError(
                f"{name}: {100 * share:.4f} % of the {output} agree with the student's, less than "
                f"{100 * _LEAST_AGREEMENT} %; nothing was written; --no-verify writes it all the same"
            )
    if "probabilities" in wanted:
        difference = np.abs(
            found["probabilities"].astype(np.float32) - wanted["probabilities"].astype(np.float32)
        ).max()
        if not difference <= 5e-3:
            raise ExportError(
                f"{name}: probabilities differ by up to {difference:.2g} from the student's; nothing was written; "
                "--no-verify writes it all the same"
            )
    return shares


def require_packages(formats: tuple[str, ...]) -> None:
    """Raises ExportError where a package is absent that "onnx", "int8" or "stablehlo" among `formats` needs."""
    if "onnx" in formats:
        _onnx_packages()
    if "stablehlo" in formats and importlib.util.find_spec("flatbuffers") is None:
        raise _no_flatbuffers()


def _onnx_packages() -> tuple[Any, ...]:
    """The modules onnx, jax2onnx and onnxruntime."""
    try:
        # By name, as everything that comes with an extra: type checkers run without it.
        return tuple(importlib.import_module(name) for name in ("onnx", "jax2onnx", "onnxruntime"))
    except ImportError as error:
        raise ExportError(f"ONNX needs packages that are not here ({error}); {_NEWEST}") from error


def _stablehlo(network: FixedNetwork, metadata: dict[str, str]) -> tuple[bytes, dict]:
    from jax import export

    shape = jax.ShapeDtypeStruct(network.input_shape, np.uint8)
    platforms = ("cpu", "cuda")
    exported = export.export(jax.jit(network.function), platforms=platforms)(shape)
    try:
        return bytes(exported.serialize()), {"platforms": list(platforms)}
    except ImportError as error:
        raise _no_flatbuffers() from error


def _run_stablehlo(data: bytes, images: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, stablehlo_program(data)(images)))


def stablehlo_program(data: bytes) -> Callable[[np.ndarray], Any]:
    """The function that a StableHLO file holds.

    Raises:
      ExportError: the package that reads it is absent.
    """
    from jax import export

    try:
        return jax.jit(export.deserialize(bytearray(data)).call)
    except ImportError as error:
        raise _no_flatbuffers() from error


def _no_flatbuffers() -> ExportError:
    return ExportError("StableHLO needs the package flatbuffers, which is not here: pip install flatbuffers")


def onnx_model(network: FixedNetwork, metadata: dict[str, str]) -> tuple[bytes, dict]:
    """The network as an ONNX file within TensorRT's operators, and facts for the manifest.

    Args:
      network: see there.
      metadata: texts that the file holds.

    Raises:
      ExportError: a package is absent, or the network needs other operators.
    """
    onnx, jax2onnx, _ = _onnx_packages()
    shape = jax.ShapeDtypeStruct(network.input_shape, np.uint8)
    model = jax2onnx.to_onnx(
        network.function,
        [shape],
        model_name="occjax",
        opset=OPSET,
        input_names=["images"],
        output_names=list(network.outputs),
    )
    model = onnx.shape_inference.infer_shapes(model)
    _drop_unused(model)
    onnx.checker.check_model(model)
    require_tensorrt(model)
    onnx.helper.set_model_props(model, metadata)
    stream = io.BytesIO()
    onnx.save_model(model, stream)
    return stream.getvalue(), {"opset": OPSET, "operators": operators_of(model)}


def require_tensorrt(model: Any) -> None:
    """Raises ExportError unless an `onnx.ModelProto` with inferred shapes lies within TensorRT's operators."""
    problems = tensorrt_problems(model)
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ExportError("beyond TensorRT 10.0's operators:\n  " + "\n  ".join(problems[:10]) + more)


def _drop_unused(model: Any) -> None:
    """Removes nodes and constants that no output needs: levels of the pyramid that nobody reads."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _run_onnx(data: bytes, images: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(onnx_session(data).run(None, {"images": images}))
