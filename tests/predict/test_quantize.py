"""INT8 is what TensorRT takes, close to float32, and written only where it loses little."""

import json

import numpy as np
import pytest

from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.errors import UserError
from occjax.predict.export_folder import MODELS, NetworkExport
from occjax.predict.load import load
from occjax.predict.quantize import quantized
from occjax.run import quantized_export
from occjax.run.export import export_workdir
from occjax.run.quantized_export import with_int8


def small_model(onnx, rng) -> bytes:
    """Two convolutions and a product of uint8 images, the channels of very different sizes; then a softmax."""
    make, kinds = onnx.helper.make_node, onnx.TensorProto
    constants = {
        "kernel": rng.normal(size=(8, 3, 3, 3)) * np.geomspace(1e-3, 1, 8)[:, None, None, None],
        "bias": rng.normal(size=8),
        "kernel2": rng.normal(size=(6, 8, 3, 3)),
        "matrix": rng.normal(size=(6, 5)),
        "zero": np.zeros(()),
        "spread": np.full(1, 1 / 255),
    }
    tensors = [onnx.numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    tensors.append(onnx.numpy_helper.from_array(np.array([-1, 6]), "shape"))
    nodes = [
        make("Cast", ["images"], ["float"], to=kinds.FLOAT),
        make("Mul", ["float", "spread"], ["scaled"]),
        make("Squeeze", ["scaled"], ["flat"]),
        make("Transpose", ["flat"], ["chw"], perm=[2, 0, 1]),
        make("Unsqueeze", ["chw", "first"], ["x"]),
        make("Conv", ["x", "kernel", "bias"], ["c1"], pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"]),
        make("Conv", ["r1", "kernel2"], ["c2"], pads=[1, 1, 1, 1]),
        make("Transpose", ["c2"], ["last"], perm=[0, 2, 3, 1]),
        make("Reshape", ["last", "shape"], ["rows"]),
        make("Gemm", ["rows", "matrix", "zero"], ["logits"], beta=0.0),
        make("Softmax", ["logits"], ["probabilities"]),
    ]
    tensors.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    images = onnx.helper.make_tensor_value_info("images", kinds.UINT8, [1, 1, 12, 16, 3])
    outputs = [onnx.helper.make_tensor_value_info(name, kinds.FLOAT, [192, 5]) for name in ("logits", "probabilities")]
    graph = onnx.helper.make_graph(nodes, "graph", [images], outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def test_convolutions_and_products_take_eight_bits():
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (1, 1, 12, 16, 3)).astype(np.uint8) for _ in range(5)]
    model = small_model(onnx, rng)
    data, facts = quantized(model, frames[:4])
    found = onnx.load_from_string(data)
    assert facts["operators"]["Conv"] == 2 and facts["operators"]["Softmax"] == 1
    makers = {name: node for node in found.graph.node for name in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    for node in found.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        if node.op_type == "Softmax":
            assert makers[node.input[0]].op_type != "Gemm"  # whose output is 8 bits wide too
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any()
    # A scale for each channel: with one for all, those of a thousandth would be zero.
    scales = [constants[makers[n.input[1]].input[1]] for n in found.graph.node if n.op_type == "Conv"]
    assert [scale.shape for scale in scales] == [(8,), (6,)] and scales[0].max() > 100 * scales[0].min()
    # Biases stay, of which TensorRT dequantises none.
    assert {kind.dtype.name for kind in constants.values()} == {"int8", "float32", "int64"}
    run = [runtime.InferenceSession(m, providers=["CPUExecutionProvider"]).run for m in (model, data)]
    before, after = (each(["logits"], {"images": frames[4]})[0] for each in run)
    assert 0 < np.abs(after - before).std() < 0.03 * before.std()


class Session:
    """As ONNX Runtime's, of a model that knows the truth but for some of its voxels."""

    def __init__(self, truth: dict[bytes, np.ndarray], wrong: int):
        self.truth, self.wrong = truth, wrong

    def run(self, names, feed):
        classes = self.truth.get(feed["images"].tobytes(), np.zeros((16, 16, 16), np.uint8)).copy()
        flat = classes.reshape(-1)
        flat[: self.wrong] = (flat[: self.wrong] + 1) % 18
        return [np.zeros(1), classes]


@pytest.fixture
def export(config) -> NetworkExport:
    sample = next(make_eval_loader(config, load_index(config.data), "val", Parts(), batch_size=1)).rig
    rig = {name: getattr(sample, name)[0] for name in ("pixel_from_cam", "cam_from_grid", "input_from_pixel")}
    manifest = {
        "formats": {"onnx": {}},
        "outputs": ["bev", "classes"],
        "rig": {"cameras": list(config.data.cameras), **{name: value.tolist() for name, value in rig.items()}},
    }
    return NetworkExport({"model.onnx": b"float"}, {"images": np.zeros((1, 2, 32, 64, 3), np.uint8)}, manifest)


@pytest.fixture
def quantize_to(config, monkeypatch):
    """Has quantisation make a model that is wrong in some voxels; gives what it was calibrated on."""
    index = load_index(config.data)
    loader = make_eval_loader(config, index, "val", Parts(labels=True), batch_size=1)
    truth = {batch.images.tobytes(): batch.labels.semantics[0] for batch in loader}
    frames = []

    def to(wrong: int):
        def quantized(model, images):
            assert model == b"float"
            frames.extend(images)
            return b"int8", {"operators": {}}

        monkeypatch.setattr(quantized_export, "quantized", quantized)
        monkeypatch.setattr(
            quantized_export, "onnx_session", lambda data: Session(truth, wrong if data == b"int8" else 0)
        )
        return frames

    return to


def test_what_loses_little_is_taken_with_its_scores(export, config, quantize_to):
    frames = quantize_to(30)
    made = with_int8(export, config, force=False)
    assert made.models == {"model.onnx": b"float", "model_int8.onnx": b"int8"}
    facts = made.manifest["formats"]["int8"]
    scores = facts["scores"]
    assert scores["model.onnx"]["samples"] == 3 and scores["model.onnx"]["miou"] == 100
    assert 99 < scores["model_int8.onnx"]["miou"] < 100
    assert set(facts["latency_ms"]) == {"model.onnx", "model_int8.onnx"} and "cores" in facts["machine"]
    # The training split's six samples, none twice, as the predictor prepares them.
    assert facts["calibration"] == {"split": "train", "samples": 6} and len(frames) == 6
    loader = make_eval_loader(config, load_index(config.data), "train", Parts(), batch_size=1)
    for frame, batch in zip(frames, loader, strict=True):
        np.testing.assert_array_equal(frame, batch.images)
    # What is given is not changed.
    assert list(export.manifest["formats"]) == ["onnx"] and list(export.models) == ["model.onnx"]


def test_what_loses_much_is_refused_unless_it_is_forced(export, config, quantize_to):
    # The mean over all classes, most of which are not there, would hide it.
    quantize_to(100)
    with pytest.raises(UserError, match=r"INT8 falls from 100.00 to 99.8\d \(mIoU\), .*nothing was written; --force"):
        with_int8(export, config, force=False)
    assert "model_int8.onnx" in with_int8(export, config, force=True).models


def test_what_cannot_be_scored_is_told(export, config, run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="int8 is made of onnx: --format=onnx,int8"):
        export_workdir(config, run, tmp_path, formats=("int8",))
    manifest = export.manifest
    for changed, says in (
        ({"outputs": ["bev"]}, "add them to --outputs"),
        ({"rig": {"cameras": ["left", "right"]}}, "cameras CAM_FRONT, CAM_BACK, the rig has left, right; leave int8"),
    ):
        with pytest.raises(UserError, match=says):
            with_int8(export._replace(manifest={**manifest, **changed}), config, force=True)
    for name, change in (
        ("cam_from_grid", [[0, 0, 0, 0]] * 2 + [[0, 0, 0, 3.0], [0, 0, 0, 0]]),
        ("pixel_from_cam", [[30.0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ):
        rig = {**manifest["rig"], name: (np.array(manifest["rig"][name]) + change).tolist()}
        with pytest.raises(UserError, match="split val, whose cameras look elsewhere .*--force"):
            with_int8(export._replace(manifest={**manifest, "rig": rig}), config, force=False)
    monkeypatch.setattr(quantized_export, "has_labels", lambda *_, **__: False)
    with pytest.raises(UserError, match="split val lacks: set data.labels_dir, or leave int8 out"):
        with_int8(export, config, force=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_export_in_int8_is_loaded_by_its_name(config, run, tmp_path):
    for package in ("onnx", "onnxruntime", "jax2onnx"):
        pytest.importorskip(package)
    import occjax

    # Of random weights anything may come, but for the path of it.
    written = export_workdir(config, run, tmp_path, formats=("onnx", "int8"), force=True)
    assert {path.name for path in written} >= {"model.onnx", "model_int8.onnx", "export.json"}
    facts = json.loads((tmp_path / "export.json").read_text())["formats"]["int8"]
    assert facts["operators"]["QuantizeLinear"] > 20 and facts["scores"]["model.onnx"]["samples"] == 3
    files, rig = occjax.nuscenes_frame(
        config.data.root, load_index(config.data).split("val").tokens[0], cameras=config.data.cameras
    )
    float32, int8 = load(tmp_path), load(tmp_path / MODELS["int8"])
    images = float32.prepare(files, rig)
    found = {name: predictor.predict(images) for name, predictor in (("float32", float32), ("int8", int8))}
    with np.load(tmp_path / "reference.npz") as reference:
        np.testing.assert_array_equal(found["float32"].classes, reference["classes"])
    assert 0.8 < np.mean(found["int8"].classes == found["float32"].classes) < 1
