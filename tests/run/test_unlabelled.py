"""Data without labels: predictions are written, nothing is scored, and pictures show the prediction alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_world import tiny_config

from occjax.data.files import label_files
from occjax.data.index import load_index
from occjax.errors import UserError
from occjax.label_sets import label_set
from occjax.metrics.prediction_files import read_prediction
from occjax.run.evaluate import evaluate_workdir
from occjax.run.scoring import Outputs
from occjax.run.train import train
from occjax.run.visualize import visualize_workdir
from occjax.system.mesh import make_mesh, replicated
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import initial_state, make_learner


def test_an_unlabelled_split_is_predicted_and_drawn_but_not_scored(world, tmp_path):
    config = tiny_config(world)
    config.data.teacher_dir, config.data.labels_dir = "", str(tmp_path / "no labels here")
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(0, initial_state(make_learner(config, 1), replicated(make_mesh())), {})
    checkpoints.close()
    with pytest.raises(UserError, match="split val has no surroundocc labels in .*no labels here to score by"):
        evaluate_workdir(config, tmp_path, outputs=Outputs())
    assert not (tmp_path / "eval").exists()

    evaluation = evaluate_workdir(config, tmp_path, outputs=Outputs(save_predictions=True, rayiou=True))
    assert "nothing to score: split val has no surroundocc labels" in evaluation.summary(tmp_path)
    assert [path.name for path in (tmp_path / "eval/step-0").iterdir()] == ["predictions"]
    split = load_index(config.data).split("val")
    written = {path.stem: path for path in (tmp_path / "eval/step-0/predictions").iterdir()}
    assert set(written) == set(split.tokens)
    assert read_prediction(written[split.tokens[0]])[1] == config.grid.build()

    (picture,) = visualize_workdir(config, tmp_path, tokens=split.tokens[:1], scene="", movie_format="")
    assert np.asarray(Image.open(picture)).std() > 20


def test_training_says_at_its_start_that_it_cannot_validate(world, tmp_path):
    config = tiny_config(world)
    config.data.teacher_dir = ""
    labels = tmp_path / "labels/samples"
    labels.mkdir(parents=True)
    split = load_index(config.data).split("train")
    for path in map(Path, label_files(split, label_set("surroundocc"), config.data).paths):
        (labels / path.name).symlink_to(path.resolve())
    config.data.labels_dir = str(labels.parent)
    with pytest.raises(UserError, match="split val has no surroundocc labels .* data.val_split to a split that has"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()
