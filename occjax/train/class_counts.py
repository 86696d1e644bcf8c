"""How often each class occurs in the training labels on the model's grid, for the class weights."""

from pathlib import Path

import numpy as np

from occjax.classes import OCC3D_CLASS_COUNTS
from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.data.labels import label_path, label_set, read_labels
from occjax.losses.class_weights import count_classes

_MAX_FILES = 200  # frequencies enter through a logarithm; more files change the weights by less than a per cent


def training_class_counts(config: Config, split: SplitIndex) -> np.ndarray:
    """Voxels per class, int64 [K], over up to 200 label files spread evenly over the split.

    Counted on the labels' own grid cropped to the model's, since frequencies of another grid would weigh wrongly;
    `loss.class_counts="occ3d"` takes the published counts instead.
    """
    if config.loss.class_counts == "occ3d" or not config.loss.class_balanced:
        return OCC3D_CLASS_COUNTS
    kind = label_set(config.data.labels)
    folder = Path(config.data.labels_dir) if config.data.labels_dir else Path(config.data.root) / kind.folder
    crop = kind.grid.crop_slices(config.grid.build())
    rows = np.unique(np.linspace(0, len(split) - 1, _MAX_FILES).astype(int))

    def labels():
        for row in rows:
            path = label_path(
                config.data.labels,
                folder,
                lidar_file=split.lidar_file[row].decode(),
                scene_name=split.scene_names[row],
                token=split.tokens[row],
            )
            yield read_labels(config.data.labels, path)[0][crop]

    return count_classes(labels())
