"""The folder of an export: whole or not there, and its card says all that it takes to run the network elsewhere."""

import dataclasses
import json
import re
import sys
import types

import cv2
import numpy as np
import pytest

from occjax.config import Config
from occjax.grid import VoxelGrid
from occjax.predict import exported
from occjax.predict.export_card import card, facts_of
from occjax.predict.export_folder import RIG_MATRICES, NetworkExport, read_manifest, write_export
from occjax.predict.rig import Lens, Rig

K = np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]])
POSE = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MANIFEST = {
    "formats": {},
    "outputs": ["classes", "bev"],
    "input": [1, 2, 32, 64, 3],
    "temperature": 1.5,
    "step": 7,
    "rig": {
        "cameras": ["CAM_FRONT", "CAM_BACK"],
        **{name: [np.eye(n).tolist()] * 2 for name, n in RIG_MATRICES.items()},
    },
    "coverage": 0.5,
}
LENS = Lens(
    True, np.array([[80.0, 0, 82], [0, 80, 45], [0, 0, 1]]), np.array([0.05, -0.01, 0, 0]), np.eye(3), (160, 90)
)


def lens_for(rig):
    """A fisheye that is undone to the rig's first camera."""
    return dataclasses.replace(LENS, pixel_from_cam=rig.pixel_from_cam[0].astype(np.float64))


def test_an_export_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    def made(*files):
        return NetworkExport(dict.fromkeys(files, b"model"), {"images": np.zeros(1)}, MANIFEST)

    lidar = VoxelGrid("lidar", (-4.0, -4.0, -1.0), 0.5, (16, 16, 4))
    rig = Rig.from_arrays([K, K], grid_from_cam=[POSE, POSE], frame="ego")
    MANIFEST.update(facts_of(rig, lidar), formats={"stablehlo": {}})
    written = write_export(tmp_path, made("model.onnx", "model_int8.onnx"), Config())
    page = (tmp_path / "EXPORT.md").read_text()
    for said in ("CAM_FRONT, CAM_BACK, in this order", "x right, y forward, z up, X = 16, Y = 16, Z = 4", "17 free"):
        assert said in page
    assert "of the network's logits divided" not in page and "InferenceSession('model.onnx')" in page
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} and len(written) == 6
    # Another rig's, perhaps: what it does not write itself would be taken for its own.
    written = write_export(tmp_path, made("model.stablehlo"), Config())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} and len(written) == 5

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("occjax.predict.export_folder.np.savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        write_export(tmp_path, made("model.onnx"), Config())
    # The one before is still there, and nothing of what failed.
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    assert read_manifest(tmp_path)["outputs"] == ["classes", "bev"]


@pytest.mark.parametrize("has_lens", [False, True])
def test_the_program_of_the_card_prepares_images_as_the_predictor_does(
    has_lens, predictor, sample, tmp_path, monkeypatch
):
    rig = sample[2]
    rig = dataclasses.replace(rig, lenses=(lens_for(rig), None)) if has_lens else rig
    rng = np.random.default_rng(0)
    images = [cv2.resize(rng.integers(0, 256, (9, 16, 3)).astype(np.uint8), (160, 90)) for _ in rig.cameras]
    for name, image in zip(rig.cameras, images, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    manifest = {**MANIFEST, "rig": {"cameras": list(rig.cameras)}, **facts_of(rig, predictor.grid)}
    (tmp_path / "export.json").write_text(json.dumps(manifest))
    program = re.search(r"```python\n(.*)```", card(manifest, ("model.onnx",)), re.S)[1]
    monkeypatch.chdir(tmp_path)
    seen = {}
    session = types.SimpleNamespace(run=lambda outputs, inputs: seen.update(inputs) or ("c", "b"))
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=lambda path: session))
    exec(program, {})
    wanted = predictor.prepare(images, rig).images
    assert seen["images"].shape == wanted.shape == (1, 2, 32, 64, 3)
    np.testing.assert_array_equal(seen["images"], wanted)


def test_the_first_format_that_can_run_here_is_taken(tmp_path, monkeypatch):
    grid = VoxelGrid("lidar", (-4.0, -4.0, -1.0), 0.5, (16, 16, 4))
    rig = Rig.from_arrays([K, K], grid_from_cam=[POSE, POSE], frame="ego")
    manifest = {**MANIFEST, **facts_of(rig, grid), "formats": {"onnx": {}, "stablehlo": {}}}
    config = Config()
    config.grid.frame, config.grid.lower_m, config.grid.voxel_size_m, config.grid.shape = (
        grid.frame,
        grid.lower_m,
        grid.voxel_size_m,
        grid.shape,
    )
    config.data.image_height, config.data.image_width = 32, 64
    models = {"model.onnx": b"onnx", "model.stablehlo": b"stablehlo"}
    write_export(tmp_path, NetworkExport(models, {"images": np.zeros(1)}, manifest), config)
    monkeypatch.setattr(exported.ExportedPredictor, "_runner", lambda self: self._model)
    for absent, taken in (
        ([], "model.stablehlo"),
        (["flatbuffers"], "model.onnx"),
        (["onnxruntime"], "model.stablehlo"),
        (["flatbuffers", "onnxruntime"], "model.stablehlo"),
    ):
        is_here = lambda name, absent=absent: None if name in absent else name  # noqa: E731
        monkeypatch.setattr(exported.importlib.util, "find_spec", is_here)
        assert exported.ExportedPredictor(config, tmp_path)._run == taken
    assert exported.ExportedPredictor(config, tmp_path / "model.onnx")._run == "model.onnx"
