"""The counts behind the class weights are those of the training labels, on the model's grid."""

import numpy as np
import pytest
from loading import make_config
from nuscenes_root import surroundocc_voxels, write_root

from occjax.classes import FREE, OCC3D_CLASS_COUNTS
from occjax.data.index import load_index
from occjax.grid import SURROUNDOCC_GRID
from occjax.stop_requests import StopRequested
from occjax.train.class_counts import training_class_counts


def test_voxels_of_the_training_labels_are_counted_on_the_models_grid(tmp_path):
    config = make_config(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 2}))
    split = load_index(config.data).split("train")
    expected = np.zeros(18, int)
    for frame in range(2):
        dense = np.full(SURROUNDOCC_GRID.shape, FREE)
        x, y, z, classes = surroundocc_voxels("scene-0061", frame).T
        dense[x, y, z] = classes
        # `make_config`: the middle 80×80 of 200×200 columns.
        expected += np.bincount(dense[60:140, 60:140].ravel(), minlength=18)
    assert training_class_counts(config, split).tolist() == expected.tolist()
    # Thousands of files may lie on a slow disk.
    asked = iter([0, 15])
    with pytest.raises(StopRequested):
        training_class_counts(config, split, lambda: next(asked))
    config.loss.class_counts = "occ3d"
    assert training_class_counts(config, split).tolist() == OCC3D_CLASS_COUNTS.tolist()
