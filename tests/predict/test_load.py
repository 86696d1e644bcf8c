"""What `occjax.load` does not take, it names."""

import pytest

import occjax
from occjax.config import Config
from occjax.errors import UserError
from occjax.predict.load import load_predictor


def test_what_cannot_be_loaded_is_named(run, tmp_path):
    (tmp_path / "model.onnx").touch()
    for path, says in (
        (tmp_path / "none.onnx", "none.onnx is not there; .* holds model.onnx"),
        (tmp_path, r"holds model.onnx, but no export.json: an export was cut; export again"),
        (run / "config.json", "config.json is no network that was exported; to load its folder, name"),
    ):
        with pytest.raises(UserError, match=says):
            load_predictor(Config(), path) if path == tmp_path else occjax.load(path)
