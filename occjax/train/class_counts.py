"""How often each class occurs in the training labels on the model's grid, for the class weights."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from occjax.classes import OCC3D_CLASS_COUNTS
from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.sources import open_source
from occjax.errors import SampleError
from occjax.label_sets import label_set
from occjax.losses.class_weights import count_classes
from occjax.stop_requests import StopRequested

_MAX_FILES = 200  # frequencies enter through a logarithm; more files change the weights by less than a per cent


def training_class_counts(
    config: Config, split: SplitIndex, asked: Callable[[], int] = lambda: 0
) -> Int[np.ndarray, "k"]:
    """Voxels per class, int64, over the labels of up to 200 samples spread evenly over the split.

    Counted on the labels' own grid cropped to the model's, since frequencies of another grid would weigh wrongly;
    `loss.class_counts="occ3d"` takes the published counts instead.

    Raises:
      SampleError: labels cannot be read, and data.on_error does not skip them.
      StopRequested: `asked` gave a signal's number between two files.
    """
    if config.loss.class_counts == "occ3d" or not config.loss.class_balanced:
        return OCC3D_CLASS_COUNTS
    crop = label_set(config.data.labels).grid.crop_slices(config.grid.build())
    source = open_source(config.data, split, Parts(labels=True))
    # Spread over the split: scenes follow one another, and neighbours show the same street.
    rows = np.unique(np.linspace(0, len(split) - 1, _MAX_FILES).astype(int))

    def labels():
        for row in rows.tolist():
            if number := asked():
                raise StopRequested(number)
            try:
                yield source.open(row).labels()[0][crop]
            except SampleError:
                # The loader reports and counts it when its turn comes.
                if config.data.on_error != "skip":
                    raise

    return count_classes(labels())
