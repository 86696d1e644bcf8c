"""--mode=view and evaluation's page: from predictions to frames."""

import jax.numpy as jnp
import numpy as np
import pytest
from loading import make_config
from nuscenes_root import write_root

from occjax.classes import FREE
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.errors import UserError
from occjax.metrics.on_device import TeacherComparison, VoxelSummary, largest_probability
from occjax.run.scene_frame import packed_frame
from occjax.run.view import view_workdir
from occjax.run.visualize import predictions


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    root = write_root(tmp_path_factory.mktemp("world") / "nuscenes", scenes={"scene-0003": 1})
    config = make_config(root)
    keyframes = load_index(config.data).everything
    reader = SampleReader(config, open_source(config.data, keyframes, Parts(labels=True)), augment=None)
    ((_, batch, _),) = predictions(lambda batch: None, reader, [0], 1)
    return config, keyframes, batch


def test_a_frame_shows_what_a_batch_and_its_summary_hold(sample):
    config, keyframes, batch = sample
    shape = batch.labels.semantics.shape
    semantics, known = np.full(shape, 4, np.uint8), np.zeros(shape, bool)
    teacher = TeacherComparison(np.full(shape, 7, np.uint8), known, np.zeros((1, 2)), np.full(shape, 51, np.uint8))
    summary = VoxelSummary(semantics, None, teacher, np.full(shape, 255, np.uint8))
    whole = packed_frame(batch, summary, 0, config, keyframes, 0, title="scene")
    assert whole.panels == {"truth": False, "prediction": True, "teacher": True}
    # What the teacher does not know is not drawn.
    assert whole.classes == {4} | set(np.unique(batch.labels.semantics).tolist()) - {FREE}
    assert len(whole.images) == len(config.data.cameras)
    alone = packed_frame(
        batch._replace(labels=None), VoxelSummary(semantics, None, None), 0, config, keyframes, 0, title="scene"
    )
    assert alone.panels == {"prediction": False}


def test_probability_is_that_of_the_class_in_255ths():
    log_probs = np.log(np.array([[0.2, 0.8], [0.5, 0.5], [1.0, 1e-9]], np.float32))
    assert np.asarray(largest_probability(jnp.asarray(log_probs))).tolist() == [204, 128, 255]


def test_what_cannot_be_viewed_is_named(sample, tmp_path):
    config = sample[0]
    with pytest.raises(UserError, match=r"as \.html, not 'scene.png'"):
        view_workdir(config, tmp_path, tmp_path / "scene.png", tokens=[], scene="")
    with pytest.raises(UserError, match="at least 1, not 0"):
        view_workdir(config, tmp_path, tmp_path / "scene.html", tokens=[], scene="", most_frames=0)
    with pytest.raises(UserError, match="token nobody"):
        view_workdir(config, tmp_path, tmp_path / "scene.html", tokens=["nobody"], scene="")
