"""The counts behind the class weights are those of the training labels, on the model's grid."""

from pathlib import Path

import numpy as np
import pytest
from loading import make_config
from nuscenes_root import surroundocc_voxels, write_root

from occjax.classes import FREE, OCC3D_CLASS_COUNTS
from occjax.data.index import load_index
from occjax.errors import DataError
from occjax.grid import SURROUNDOCC_GRID
from occjax.system.stop_requests import StopRequested
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


def test_labels_of_which_nothing_counts_are_told_before_training(tmp_path):
    root = write_root(tmp_path / "nuscenes", scenes={"scene-0061": 2})
    config = make_config(root)
    split = load_index(config.data).split("train")
    first, second = sorted(Path(root, "surroundocc/samples").iterdir())
    # SurroundOcc ignores others; on the whole of it, for what is not listed is free and counts.
    cells = np.stack(np.unravel_index(np.arange(SURROUNDOCC_GRID.num_voxels), SURROUNDOCC_GRID.shape), axis=1)
    for path in (first, second):
        np.save(path, np.c_[cells, np.zeros(len(cells), int)].astype(np.int16))
    for config.loss.class_counts in ("labels", "occ3d"):
        with pytest.raises(DataError, match="split train: of 2 samples no voxel counts .* others 204800; ignor"):
            training_class_counts(config, split)
    np.save(second, np.array([[100, 100, 8, 4]]))
    training_class_counts(config, split)


def test_on_a_coarser_grid_pooled_labels_are_counted(tmp_path):
    config = make_config(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 1}))
    config.loss.class_counts = "labels"
    config.grid.voxel_size_m, config.grid.shape = 1.0, (40, 40, 8)
    counts = training_class_counts(config, load_index(config.data).split("train"))
    assert counts.sum() == 40 * 40 * 8 and counts[FREE] < counts.sum()
