"""A model folder holds the weights that predict, and says what they are; nothing else is read as one."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from occjax.errors import UserError
from occjax.predict import load as loading
from occjax.predict.model_folder import read_model_folder, write_model_folder
from occjax.predict.predictor import Predictor
from occjax.predict.stored_weights import CheckpointError, restore
from occjax.run.export import export_workdir
from occjax.run_config import load_config, stored_initialisation
from occjax.system.mesh import make_mesh

METRICS = {
    "samples": 3,
    "split": "val",
    # In per cent, as `Scores.to_dict` has them; None where undefined; RayIoU has neither mean.
    "protocols": [
        {"protocol": "surroundocc", "mask": "none", "miou": 49.12, "iou": None},
        {"protocol": "RayIoU", "mask": "no mask", "rayiou": 30.0},
    ],
}


@pytest.fixture(scope="module")
def exported(run, config, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported")
    written = export_workdir(config, run, output, formats=("safetensors",))
    assert [path.name for path in written] == ["model.safetensors", "config.json", "README.md"]
    return output


def test_what_comes_back_is_what_predicts(run, config, exported):
    wanted, found = restore(config, run, make_mesh()), read_model_folder(exported, config, make_mesh())
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    stored = load_file(exported / "model.safetensors")
    # Names that people can read, of the averaged weights.
    kernel = stored["params.backbone.stem.conv.kernel"]
    np.testing.assert_array_equal(kernel, wanted.params["backbone"]["stem"]["conv"]["kernel"])
    assert "batch_stats.backbone.stages.0.0.conv1.norm.mean" in stored
    # As readable as any file, for others too.
    modes = {path.stat().st_mode for path in exported.iterdir()}
    assert len(modes) == 1
    assert load_config(exported).to_dict() == config.to_dict()
    assert stored_initialisation(exported) == stored_initialisation(run) == {"kind": "random", "file": "", "sha256": ""}


def test_load_reads_it(exported, config, monkeypatch):
    monkeypatch.setattr(Predictor, "warm_up", lambda self, cameras: None)
    predictor = loading.load(exported)
    assert predictor.grid == config.grid.build() and predictor.step == 0
    with pytest.raises(CheckpointError, match="one set of weights; leave best out"):
        loading.load(exported, best=True)


def test_the_card_says_what_it_is(run, config, exported, tmp_path):
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: occjax\n") and "Not evaluated." in card
    assert "2 cameras (CAM_FRONT, CAM_BACK), 64×32" in card and "ema weights after 0 updates" in card
    assert "fill in" in card and "ground truth and a teacher" in card and "| started from | random |" in card
    write_model_folder(tmp_path, config, restore(config, run, make_mesh()), initialisation=None, metrics=METRICS)
    card = (tmp_path / "README.md").read_text()
    assert "| surroundocc | none | 49.12 | - |" in card and "| RayIoU" not in card
    assert "On 3 samples of split val" in card
    assert "not recorded" in card and json.loads((tmp_path / "metrics.json").read_text()) == METRICS


def test_scores_of_these_weights_travel_along(run, config, tmp_path, monkeypatch):
    folder = run / "eval/step-0"
    folder.mkdir(parents=True)
    protocol = METRICS["protocols"][0] | {"grid": "a grid"}
    results = METRICS | {"subject": "student", "split_samples": 3, "weights": "ema", "step": 0, "protocols": [protocol]}
    (folder / "metrics.json").write_text(json.dumps(results))
    written = export_workdir(config, run, tmp_path, formats=("safetensors",))
    assert json.loads((tmp_path / "metrics.json").read_text()) == results and len(written) == 4
    (folder / "metrics.json").write_text(json.dumps(results | {"step": 8}))
    assert len(export_workdir(config, run, tmp_path, formats=("safetensors",))) == 3
    assert not (tmp_path / "metrics.json").exists()  # of other weights


def test_files_that_do_not_belong_together_are_told(exported, config, tmp_path):
    arrays = load_file(exported / "model.safetensors")
    arrays["params.head.out.bias"] = arrays["params.head.out.bias"][:-1]
    arrays["params.more"] = arrays.pop("params.head.out.kernel")
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        read_model_folder(tmp_path, config, make_mesh())
    for said in ("missing: params.head.out.kernel", "not in the model: params.more", "(287,) stored, (288,) wanted"):
        assert said in str(error.value)
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read: .*export or download it again"):
        read_model_folder(tmp_path, config, make_mesh())


def test_weights_keep_to_the_configuration_of_their_export(exported, config, tmp_path):
    stored = json.loads((exported / "config.json").read_text())
    stored["config"]["grid"]["lower_m"] = [-8.0, -4.0, -1.0]
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match=r"config.json is not the one that model.safetensors was exported with"):
        read_model_folder(tmp_path, config, make_mesh())


def test_formats_that_there_are_not_are_told(run, config, tmp_path):
    with pytest.raises(UserError, match="--format is some of onnx, int8, stablehlo, safetensors, pytorch.*not onxx"):
        export_workdir(config, run, tmp_path, formats=("onxx",))
    with pytest.raises(UserError, match=r"not of the PyTorch original's architecture .*camera_norm=fixed"):
        export_workdir(config, run, tmp_path / "none", formats=("safetensors", "pytorch"))
    assert not (tmp_path / "none").exists()
