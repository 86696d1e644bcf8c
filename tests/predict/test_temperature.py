"""A temperature goes with its checkpoint: fitted by an evaluation, used by everything that predicts."""

import json
import shutil

import jax
import numpy as np
import pytest

from occjax.__main__ import main
from occjax.metrics.calibration import CANDIDATES
from occjax.predict.fixed_network import OUTPUTS, fixed_network
from occjax.predict.model_folder import read_model_folder
from occjax.predict.predictor import Predictor
from occjax.predict.stored_weights import CheckpointError, restore
from occjax.predict.temperature import read_temperature, write_temperature
from occjax.run.evaluate import evaluate_workdir
from occjax.run.export import export_workdir
from occjax.run.scoring import Outputs
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints


def test_a_fit_is_kept_with_the_checkpoint_and_scored_from_then_on(run, config, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    plain = evaluate_workdir(config, workdir, outputs=Outputs())
    assert plain.results["temperature"] is None and "at temperature" not in plain.table
    fitted = evaluate_workdir(config, workdir, outputs=Outputs(), fit_temperature=True)
    path = workdir / "checkpoints/0/temperature-ema.json"
    assert fitted.files[-1] == path and str(path) in fitted.summary(workdir)
    best = fitted.results["temperature"]
    # An untrained student knows nothing, and says it too loudly or too softly; all else is the same pass.
    assert best["value"] in CANDIDATES and best["value"] != 1
    assert best["occupancy_calibration_error"] < fitted.results["occupancy_calibration_error"]
    # Another program: a probability at the edge of a bin may round to the other side.
    error = "occupancy_calibration_error"
    assert fitted.results[error] == pytest.approx(plain.results[error], rel=1e-5)
    assert fitted.results["protocols"] == plain.results["protocols"]
    stored = json.loads(path.read_text())
    assert stored == {"temperature": best["value"], "split": "val", "samples": 3}
    again = evaluate_workdir(config, workdir, outputs=Outputs())
    assert again.results["temperature"] == pytest.approx(best, rel=1e-6)
    assert f"at temperature {best['value']:.3f}: {best['occupancy_calibration_error']:.2f} %" in again.table
    # Of these weights alone.
    assert restore(config, workdir, make_mesh()).temperature == best["value"]
    assert read_temperature(path.parent, "raw") == 1
    # The folder is orbax's all the same.
    checkpoints = Checkpoints(workdir)
    assert checkpoints.last_step == 0
    checkpoints.close()


def test_everything_that_predicts_uses_it(run, config, predictor, sample, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    write_temperature(workdir / "checkpoints/0", "ema", 2.5, split="val", samples=3)
    _, files, rig = sample
    own = predictor(files, rig)
    assert predictor.temperature == 1
    weights = restore(config, workdir, make_mesh(jax.local_devices()[:1]))
    tempered = Predictor(config, weights)
    found = tempered(files, rig)
    np.testing.assert_array_equal(found.classes, own.classes)
    wanted = np.asarray(jax.nn.softmax(np.asarray(own.logits) / 2.5))
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
    assert np.abs(found.probabilities - own.probabilities).max() > 0.05 and tempered.temperature == 2.5
    # For a rig that stays, and in an export, which is folded into its network.
    tempered.fix(rig)
    np.testing.assert_allclose(tempered(files, rig).probabilities, wanted, atol=1e-4)
    frame = predictor.prepare(files, rig)
    network = fixed_network(config, weights, frame.rig, OUTPUTS)
    classes, probabilities, _ = jax.jit(network.function)(frame.images)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-3)
    assert np.mean(np.asarray(classes) == own.classes) > 0.9999
    export_workdir(config, workdir, tmp_path / "exported", formats=("safetensors",))
    assert read_model_folder(tmp_path / "exported", config, make_mesh()).temperature == 2.5
    assert "| probabilities | of the logits divided by 2.5 |" in (tmp_path / "exported/README.md").read_text()


@pytest.mark.parametrize("content", ["", "{}", '{"temperature": 0}', '{"temperature": NaN}', '{"temperature": "x"}'])
def test_a_damaged_one_is_told(content, tmp_path):
    (tmp_path / "temperature-ema.json").write_text(content)
    with pytest.raises(CheckpointError, match="holds no temperature .*delete it, or fit another by --mode=eval"):
        read_temperature(tmp_path, "ema")


def test_a_checkpoint_that_is_gone_gets_none(tmp_path):
    with pytest.raises(CheckpointError, match="is gone: the run went on"):
        write_temperature(tmp_path / "7", "ema", 2.0, split="val", samples=3)
    assert list(tmp_path.iterdir()) == []


def test_the_teacher_has_none(capsys):
    with pytest.raises(SystemExit):
        main(["--mode=eval", "--teacher", "--fit-temperature"])
    assert "leave --best, --distributed and --fit-temperature out" in capsys.readouterr().err
