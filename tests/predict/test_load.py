"""What `occjax.load` does not take, it names."""

import pytest

import occjax
from occjax.config import Config
from occjax.errors import UserError
from occjax.predict.load import load_predictor
from occjax.predict.stored_weights import CheckpointError, checkpoint_folder


def test_what_cannot_be_loaded_is_named(run, tmp_path):
    (tmp_path / "model.onnx").touch()
    for path, says in (
        (tmp_path / "none.onnx", r"none.onnx holds no run \(it is not there\)"),
        (tmp_path, r"holds model.onnx, but no export.json: an export was cut; export again"),
        (run / "config.json", "config.json is no network that was exported; to load its folder, name"),
    ):
        with pytest.raises(UserError, match=says):
            load_predictor(Config(), path) if path == tmp_path else occjax.load(path)


def test_what_wants_a_run_says_that_an_export_is_none(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in .*; train first"):
        checkpoint_folder(tmp_path, best=False)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="it is an export: --mode=predict and occjax.load read it"):
        checkpoint_folder(tmp_path, best=False)


def test_weights_are_read_beside_an_export_that_was_cut(tmp_path):
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match="model.safetensors cannot be read"):
        load_predictor(Config(), tmp_path)
    (tmp_path / "export.json").touch()
    for path in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(CheckpointError, match="holds one set of weights; leave best out"):
            load_predictor(Config(), path, best=True)
