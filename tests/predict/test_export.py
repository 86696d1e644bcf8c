"""An export of a rig says what the student says, holds to its rig, and stays within TensorRT's operators."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from occjax.classes import CLASS_NAMES
from occjax.errors import UserError
from occjax.pooling import highest_occupied
from occjax.predict import export
from occjax.predict.export_folder import ExportError
from occjax.predict.fixed_network import OUTPUTS, fixed_network, output_of, strip_count
from occjax.predict.load import load
from occjax.predict.onnx_check import tensorrt_problems
from occjax.predict.rig import CalibrationError, Rig
from occjax.predict.stored_weights import restore
from occjax.predict.tensorrt_operators import OPERATORS
from occjax.run.export import export_workdir
from occjax.system.mesh import make_mesh


@pytest.fixture(scope="module")
def fixed(config, run, predictor, sample):
    """The tiny student for the sample's rig, compiled, and the sample as its input."""
    _, files, rig = sample
    frame = predictor.prepare(files, rig)
    weights = restore(config, run, make_mesh(jax.devices()[:1]))
    network = fixed_network(config, weights, frame.rig, OUTPUTS)
    with pytest.MonkeyPatch.context() as patch:
        # Strips of 4, 3, 3, 3 and 3 rows of columns.
        patch.setattr("occjax.predict.fixed_network._STRIP_BYTES", 60_000)
        assert strip_count(config.grid.build()) == 5
        return network, jax.jit(network.function).lower(frame.images).compile()


def test_a_fixed_rig_changes_nothing(fixed, predictor, sample):
    network, function = fixed
    _, files, rig = sample
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (90, 160, 3)).astype(np.uint8) for _ in files]
    for images in (files, noise):
        wanted, frame = predictor(images, rig), predictor.prepare(images, rig)
        found = dict(zip(network.outputs, map(np.asarray, function(frame.images)), strict=True))
        # Half a unit of float16 next to 1.
        np.testing.assert_allclose(found["probabilities"], wanted.probabilities, atol=3e-4)
        assert np.mean(found["classes"] == wanted.classes) > 0.9999
        assert network.coverage == pytest.approx(wanted.coverage)
        assert [value.dtype for value in found.values()] == [np.uint8, np.float16, np.uint8]
    assert network.input_shape == (1, 2, 32, 64, 3)


def test_the_view_from_above_is_the_highest_class():
    logits = np.random.default_rng(0).normal(size=(5, 6, 4, 18)).astype(np.float32)
    logits[:3, ..., 17] += 3
    classes = np.asarray(output_of(jnp.asarray(logits), "classes"))
    np.testing.assert_array_equal(output_of(jnp.asarray(logits), "bev"), highest_occupied(classes)[0])


def test_a_rig_beside_the_grid_is_not_exported(config, run, predictor, sample):
    _, files, rig = sample
    weights = restore(config, run, make_mesh(jax.devices()[:1]))
    frame = predictor.prepare(files, rig).rig
    poses = frame.cam_from_grid.copy()
    poses[..., 2, 3] += 100
    with pytest.raises(CalibrationError, match="sees anything of the grid"):
        fixed_network(config, weights, frame._replace(cam_from_grid=poses), OUTPUTS)


def test_the_list_is_that_of_the_support_matrix(shared_dir):
    """Line by line against the matrix as it was written down."""
    rows = [line.split("|") for line in (shared_dir / "specs/tensorrt_operators.md").read_text().splitlines()]
    wanted = {row[1].strip(): row[2].replace(",", " ").split() for row in rows if len(row) > 4 and "FP" in row[2]}
    wanted |= {row[1].strip(): ["BOOL"] for row in rows if len(row) > 3 and row[2].strip() == "BOOL"}
    assert len(wanted) > 140
    assert {name: list(types) for name, types in OPERATORS.items() if name in wanted} == wanted


def test_what_does_not_agree_is_not_written(config, run, sample, tmp_path, monkeypatch):
    monkeypatch.setattr("occjax.run.export.require_packages", lambda formats: None)
    monkeypatch.setattr(export, "_stablehlo", lambda network, metadata: (b"", {}))
    shape = config.grid.shape
    wrong = (np.zeros(shape, np.uint8), np.zeros((*shape, 18), np.float16), np.zeros(shape[:2], np.uint8))
    monkeypatch.setattr(export, "_run_stablehlo", lambda data, images: wrong)
    monkeypatch.setattr(export, "fixed_network", lambda *_: export.FixedNetwork(print, (1, 2, 32, 64, 3), OUTPUTS, 0.5))
    right = (np.ones(shape, np.uint8), *wrong[1:])
    monkeypatch.setattr(export, "_reference", lambda *_: dict(zip(OUTPUTS, right, strict=True)))
    with pytest.raises(ExportError, match="0.0000 % of the classes agree.*nothing was written"):
        export_workdir(config, run, tmp_path, formats=("stablehlo",))
    assert not list(tmp_path.iterdir())
    written = export_workdir(config, run, tmp_path, formats=("stablehlo",), verify=False)
    manifest = json.loads((tmp_path / "export.json").read_text())
    assert manifest["rig"]["cameras"] == ["CAM_FRONT", "CAM_BACK"] and len(written) == 5
    assert manifest["classes"] == list(CLASS_NAMES) and manifest["grid"] == config.grid.build().to_dict()
    with pytest.raises(UserError, match="--outputs is some of classes, probabilities, bev.*not voxels"):
        export_workdir(config, run, tmp_path, formats=("onnx",), outputs=("voxels",))


def test_what_cannot_be_exported_is_told_before_anything_is_made(config, run, tmp_path):
    for options, says in (
        ({"formats": ("stablehlo",), "output": run}, "is the folder of a run, which an export would write over"),
        ({"formats": ("safetensors",), "calibration": tmp_path / "rig.yaml"}, "--calibration is of onnx and stablehlo"),
        ({"formats": ("safetensors", "safetensors")}, "name everything once"),
        ({"formats": ("stablehlo",), "outputs": ("classes", "classes")}, "name everything once"),
    ):
        with pytest.raises(UserError, match=says):
            export_workdir(config, run, **{"output": tmp_path, **options})


@pytest.fixture(scope="module")
def exported(config, run, tmp_path_factory):
    pytest.importorskip("flatbuffers")
    folder = tmp_path_factory.mktemp("stablehlo")
    export_workdir(config, run, folder, formats=("stablehlo",))
    return folder


@pytest.mark.slow
def test_stablehlo_is_loaded_again_and_keeps_to_its_rig(exported, predictor, config):
    import occjax
    from occjax.data.index import load_index

    split = load_index(config.data).split("val")
    loaded = load(exported)
    # The rig of the first sample; any images of it.
    files, rig = occjax.nuscenes_frame(config.data.root, split.tokens[0], cameras=config.data.cameras)
    rng = np.random.default_rng(0)
    for images in (files, [rng.integers(0, 256, (90, 160, 3)).astype(np.uint8) for _ in files]):
        found, wanted = loaded(images, rig), predictor(images, rig)
        assert np.mean(found.classes == wanted.classes) > 0.9999
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-3)
        assert found.coverage == pytest.approx(wanted.coverage)
    poses = rig.cam_from_grid.copy()
    poses[1, 0, 3] += 0.25
    with pytest.raises(CalibrationError, match="another rig: cam_from_grid of CAM_BACK differs by 0.25;"):
        loaded(files, Rig(rig.cameras, rig.pixel_from_cam, poses))
    with pytest.raises(CalibrationError, match="CAM_BACK missing"):
        loaded([files["CAM_FRONT"], None], dataclasses.replace(rig, sizes=None))
    with pytest.raises(CalibrationError, match="of 2 cameras, the rig has 1"):
        loaded([files["CAM_FRONT"]], Rig(rig.cameras[:1], rig.pixel_from_cam[:1], rig.cam_from_grid[:1]))


def test_onnx_without_its_packages_says_what_to_install(monkeypatch):
    network = export.FixedNetwork(print, (1, 2, 32, 64, 3), OUTPUTS, 0.5)

    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(export.importlib, "import_module", absent)
    with pytest.raises(ExportError, match="No module named 'onnx'.*pip install -U jax flax .*'jax2onnx>=0.17.1'"):
        export.onnx_model(network, {})


@pytest.mark.slow
def test_onnx_computes_the_same_within_tensorrt(config, run, predictor, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    import occjax
    from occjax.data.index import load_index

    export_workdir(config, run, tmp_path, formats=("onnx",))
    model = onnx.load(tmp_path / "model.onnx")
    assert tensorrt_problems(model) == []
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [20]
    assert "ScatterND" not in {node.op_type for node in model.graph.node}
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    files, rig = occjax.nuscenes_frame(
        config.data.root, load_index(config.data).split("val").tokens[0], cameras=config.data.cameras
    )
    rng = np.random.default_rng(0)
    # Other inputs than those that it was verified by.
    images = [rng.integers(0, 256, (90, 160, 3)).astype(np.uint8) for _ in files]
    wanted = predictor(images, rig)
    classes, probabilities, bev = session.run(None, {"images": predictor.prepare(images, rig).images})
    assert classes.dtype == bev.dtype == np.uint8 and probabilities.dtype == np.float16
    assert np.mean(classes == wanted.classes) > 0.9999
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-3)
    np.testing.assert_array_equal(load(tmp_path)(images, rig).classes, classes)
    held = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key != "images"}
    assert held["classes"] == list(CLASS_NAMES) and held["grid"] == config.grid.build().to_dict()
    assert held["cameras"] == ["CAM_FRONT", "CAM_BACK"]


def test_what_tensorrt_does_not_take_is_named():
    onnx = pytest.importorskip("onnx")
    make, kinds = onnx.helper.make_node, onnx.TensorProto
    nodes = [
        make("ScatterND", ["x", "i", "x"], ["a"], reduction="add", name="scatter"),
        make("Unique", ["x"], ["b"], name="unique"),
        make("Equal", ["flag", "flag"], ["c"], name="equal"),
        make("ReduceMax", ["x", "i"], ["d"], name="reduce"),
        make("MaxPool", ["x"], ["e"], kernel_shape=[2], name="pool"),
        make("Relu", ["x"], ["f"], name="fine"),
        make("Cast", ["x"], ["g"], to=kinds.UINT8, name="cast"),
    ]
    values = {"x": kinds.FLOAT, "i": kinds.INT64, "flag": kinds.BOOL}
    inputs = [onnx.helper.make_tensor_value_info(name, kind, [2, 2]) for name, kind in values.items()]
    outputs = [onnx.helper.make_tensor_value_info("f", kinds.FLOAT, [2, 2])]
    inside = [onnx.helper.make_tensor_value_info("g", kinds.UINT8, [2, 2])]
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, value_info=inside)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    assert tensorrt_problems(model) == [
        "opset 23, not 9 to 20",
        "ScatterND scatter: reduction=add",
        "Unique unique: no such operator",
        "Equal equal: BOOL data, not FP32, FP16, BF16, INT32, INT64",
        "ReduceMax reduce: input 1 is no constant",
        "MaxPool pool: a pool over 1 axes",
        "Cast cast: UINT8 inside of the network",
    ]


def test_packages_are_asked_for_before_anything_is_loaded(config, run, tmp_path, monkeypatch):
    monkeypatch.setattr("occjax.run.export.restore", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="StableHLO needs the package flatbuffers.*pip install flatbuffers"):
        export_workdir(config, run, tmp_path, formats=("stablehlo",))
