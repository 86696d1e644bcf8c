"""Class counts of the training labels on the model's grid, for the class weights."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

from occjax.classes import CLASS_NAMES, NUM_CLASSES, OCC3D_CLASS_COUNTS
from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.data.parts import Parts
from occjax.data.sources import open_source
from occjax.errors import DataError, SampleError
from occjax.label_sets import Labels, label_set
from occjax.losses.class_weights import count_classes
from occjax.system.stop_requests import StopRequested

_MAX_FILES = 200  # frequencies enter through a logarithm; more files change the weights by less than a per cent


def training_class_counts(
    config: Config, split: SplitIndex, asked: Callable[[], int] = lambda: 0
) -> Int[np.ndarray, "k"]:
    """Voxels per class, int64, over the labels of up to 200 samples spread evenly over the split.

    Counted on the model's grid, since frequencies of another grid would weigh wrongly; `loss.class_counts="occ3d"`
    takes the published counts instead.

    Raises:
      DataError: no voxel of these labels counts, so that nothing could be learned.
      SampleError: labels cannot be read, and data.on_error does not skip them.
      StopRequested: `asked` gave a signal's number between two files.
    """
    # Spread over the split: scenes follow one another, and neighbours show the same street.
    rows = np.unique(np.linspace(0, len(split) - 1, _MAX_FILES).astype(int)).tolist()
    labels = _Labels(config, split, asked)
    _require_counted(config, split, labels, rows)
    if config.loss.class_counts == "occ3d" or not config.loss.class_balanced:
        return OCC3D_CLASS_COUNTS
    return count_classes(semantics for semantics, _ in labels.read(rows))


class _Labels:
    """Labels of a split on the model's grid."""

    def __init__(self, config: Config, split: SplitIndex, asked: Callable[[], int]):
        self._config, self._grid, self._asked = config, config.grid.build(), asked
        self._source = open_source(config.data, split, Parts(labels=True))

    def read(self, rows: list[int]) -> Iterator[Labels]:
        """Those that can be read; raises SampleError for one that cannot, where data.on_error does not skip it."""
        for row in rows:
            if number := self._asked():
                raise StopRequested(number)
            try:
                yield self._source.label_set.on(self._grid, self._source.open(row).labels())
            except SampleError:
                # The loader reports and counts it when its turn comes.
                if self._config.data.on_error != "skip":
                    raise


def _require_counted(config: Config, split: SplitIndex, labels: _Labels, rows: list[int]) -> None:
    """Raises DataError, with what there is, where no voxel of any of these samples counts."""
    label_set_of_run, found, seen = label_set(config.data.labels), np.zeros(NUM_CLASSES, np.int64), 0
    for semantics, mask in labels.read(rows):
        # The first file of sound labels ends it.
        if label_set_of_run.counted(semantics, mask if config.loss.use_camera_mask else None).any():
            return
        found += count_classes([semantics])
        seen += semantics.size if mask is None else int(mask.sum())
    counts = ", ".join(f"{name} {n}" for name, n in zip(CLASS_NAMES, found.tolist(), strict=True) if n)
    ignored = ", ".join(CLASS_NAMES[c] for c in label_set_of_run.ignored)
    raise DataError(
        f"nothing can be learned from the {config.data.labels} labels of split {split.name}: of {len(rows)} samples no "
        f"voxel counts ({seen} can be seen; classes on the model's grid: {counts or 'none'}; ignored: "
        f"{ignored or 'none'}); check data.labels_dir and how these labels were made"
    )
