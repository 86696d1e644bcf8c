"""Sheet of a sample: its cameras, truth, prediction and teacher, as evaluation and --mode=visualize draw them."""

from pathlib import Path

import numpy as np
from PIL import Image

from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.drawing.sheet import draw_sample
from occjax.label_sets import label_set
from occjax.metrics.combined import ScoredSample
from occjax.storage import writing


def title_of(split: SplitIndex, row: int) -> str:
    """Scene, frame and token of a sample, for the heading of its picture."""
    return f"{split.scene_names[row]}, frame {split.frame_index[row]}, sample {split.tokens[row]}"


def write_sheet(
    images: np.ndarray,
    sample: ScoredSample,
    config: Config,
    split: SplitIndex,
    row: int,
    folder: Path,
    *,
    caption: str = "prediction",
) -> Path:
    """Draws a sample into `folder`, with truth where there is one; errors on the voxels that the protocol counts.

    `images` are uint8 RGB [N, H, W, 3]; `caption` says whose prediction the sample's is.
    """
    counted = None
    if sample.truth is not None:
        counted = label_set(config.data.labels).counted(sample.truth, sample.camera_mask)
    sheet = draw_sample(
        images,
        tuple(config.data.cameras),
        sample.truth,
        sample.prediction,
        None if sample.teacher is None else sample.teacher.semantics,
        config.grid.build(),
        title=title_of(split, row),
        caption=caption,
        counted=counted,
        aspects=split.camera_aspects(row, tuple(config.data.cameras)),
    )
    # Scene and frame first, so that a listing shows a drive in order.
    path = folder / f"{split.scene_names[row]}_{split.frame_index[row]:03d}_{split.tokens[row]}.png"
    with writing(path) as scratch:
        Image.fromarray(sheet).save(scratch, format="PNG")
    return path
