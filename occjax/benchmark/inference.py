"""Inference: what a frame costs by each runtime, from prepared images on the host to classes on the host."""

import importlib
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from occjax.benchmark.timing import compiled_bytes, resident_bytes
from occjax.config import Config
from occjax.errors import UserError
from occjax.models.preprocess import normalize_images
from occjax.models.student import Student, abstract_student, apply_student, compute_dtype, split_student
from occjax.predict.export import onnx_model
from occjax.predict.fixed_network import fixed_network
from occjax.predict.images import NetworkInput
from occjax.predict.latency import latencies
from occjax.predict.onnx_runtime import onnx_session
from occjax.predict.predictor import Predictor
from occjax.predict.quantize import quantized
from occjax.predict.stored_weights import Weights

# Frames of each runtime: enough for a 99th percentile, or what this much time holds.
_FRAMES, _SECONDS = 200, 20.0
_log = logging.getLogger(__name__)


class Runtime(NamedTuple):
    """A way to compute frames.

    Attributes:
      run: computes them once.
      frames: computed at once.
      memory_bytes: weights, what goes in and comes out, and what is held in between; None = the system does not say.
    """

    run: Callable[[], object]
    frames: int
    memory_bytes: int | None


def measure_inference(config: Config, frame: NetworkInput) -> list[str]:
    """Lines of a table: p50 and p99, frames per second and memory of every runtime.

    One whose packages are absent is named with the command that brings them.

    Args:
      config: of the student; its weights are random, which cost what others do.
      frame: of the rig that the network is made for.

    Raises:
      CalibrationError: the rig sees nothing of the grid.
    """
    _, params, batch_stats = split_student(Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    weights = Weights(params, batch_stats, 0)
    exported: list[bytes] = []

    def float32() -> Runtime:
        exported.append(onnx_model(fixed_network(config, weights, frame.rig, ("classes",)), {})[0])
        return onnx_runtime(exported[0], frame.images)

    def int8() -> Runtime:
        if not exported:
            raise UserError("it is made of the float32 model above")
        return onnx_runtime(quantized(exported[0], [frame.images])[0], frame.images)

    backend = jax.default_backend()
    dtype = compute_dtype(config.model, backend)
    makers = {
        f"XLA, {dtype}": lambda: xla(config, weights, frame),
        "ONNX Runtime, float32": float32,
        "ONNX Runtime, INT8": int8,
    }
    for size in (1,) if backend == "cpu" else (1, 8):
        name = f"XLA, {dtype}, any rig, batch {size}"
        makers[name] = lambda size=size: xla_batch(config, weights, frame, size)
    runtimes: dict[str, Runtime] = {}
    absent = []
    for name, make in makers.items():
        _log.info("inference: making the network ready for %s", name)
        try:
            runtimes[name] = make()
        except UserError as error:
            absent.append(f"  {name}: left out, {error}")
    return [
        "inference: uint8 images of the network's size to classes, of one rig that stays or of any, random weights",
        f"  {'':36s} {'p50':>11s} {'p99':>11s} {'frames/s':>9s} {'memory':>10s} {'runs':>6s}",
        *_rows(runtimes),
        *absent,
    ]


def xla(config: Config, weights: Weights, frame: NetworkInput) -> Runtime:
    """The predictor's program for a rig that stays."""
    predictor = Predictor(config, weights)
    program = predictor.fix_input(frame.rig)
    return Runtime(lambda: predictor.predict(frame).classes, 1, compiled_bytes(program))


def xla_batch(config: Config, weights: Weights, frame: NetworkInput, size: int) -> Runtime:
    """The same frame `size` times, with rigs that may differ."""
    graph, _, _ = abstract_student(config.model, config.grid.build())
    images, rig = jax.tree.map(lambda x: np.repeat(np.asarray(x), size, axis=0), frame)
    weights_and_rig = jax.device_put((weights.params, weights.batch_stats, rig))
    program = classes_program(graph).lower(*weights_and_rig, images).compile()
    return Runtime(lambda: np.asarray(program(*weights_and_rig, images)), size, compiled_bytes(program))


def classes_program(student: nnx.GraphDef) -> jax.stages.Wrapped:
    """Jitted: parameters, BatchNorm's statistics, a rig and uint8 images in, most probable classes out."""

    def classes(params, batch_stats, rig, images):
        predictions, _ = apply_student(student, params, batch_stats, normalize_images(images), rig, train=False)
        return jnp.argmax(predictions.voxel_logits, axis=-1).astype(jnp.uint8)

    return jax.jit(classes)


def onnx_runtime(model: bytes, images: UInt8[np.ndarray, "1 n h w 3"]) -> Runtime:
    """An ONNX model on the processor.

    Raises:
      ExportError: ONNX Runtime is not installed.
    """
    session = onnx_session(model)
    # In a process of its own: this one keeps what earlier work has freed, and nothing would seem to be added.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
        memory_bytes = other.submit(onnx_memory_bytes, model, images).result()
    return Runtime(lambda: session.run(None, {"images": images}), 1, memory_bytes)


def onnx_memory_bytes(model: bytes, images: UInt8[np.ndarray, "1 n h w 3"]) -> int | None:
    """What a session adds to the memory of this process once it has computed frames; it gives nothing back between."""
    importlib.import_module("onnxruntime")
    before = resident_bytes()
    session = onnx_session(model)
    for _ in range(3):
        session.run(None, {"images": images})
    after = resident_bytes()
    return None if before is None or after is None else after - before


def _rows(runtimes: dict[str, Runtime]) -> list[str]:
    """Of each runtime in turn, as many frames as there is time for."""
    _log.info("inference: frames by %d runtimes in turn, about %.0f s each at most", len(runtimes), _SECONDS)
    found = latencies({name: runtime.run for name, runtime in runtimes.items()}, frames=_FRAMES, seconds=_SECONDS)
    lines = []
    for name, runtime in runtimes.items():
        p50_ms, p99_ms, runs = found[name]
        memory = "unknown" if runtime.memory_bytes is None else f"{runtime.memory_bytes / 1e6:.0f} MB"
        rate = 1e3 * runtime.frames / p50_ms
        lines.append(f"  {name:36s} {p50_ms:8.1f} ms {p99_ms:8.1f} ms {rate:9.1f} {memory:>10s} {runs:6d}")
    return lines
