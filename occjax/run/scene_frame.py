"""Frame of the page: a predicted sample as evaluation and --mode=view show it."""

from typing import Any

import numpy as np

from occjax.classes import IGNORE
from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.drawing.page_frame import FrameVolume, PackedFrame, SceneFrame, pack_frame
from occjax.label_sets import label_set
from occjax.metrics.on_device import VoxelSummary
from occjax.types import Batch


def packed_frame(
    batch: Batch, summary: VoxelSummary, i: int, config: Config, split: SplitIndex, row: int, *, title: str
) -> PackedFrame:
    """Row `i` of a batch and its summary, which is row `row` of the split; what is not there is not shown."""
    cameras = tuple(config.data.cameras)
    truth = counted = teacher = None
    if batch.labels is not None:
        semantics, mask = batch.labels.semantics[i], batch.labels.camera_mask
        truth = FrameVolume(np.asarray(semantics))
        counted = np.asarray(label_set(config.data.labels).counted(semantics, None if mask is None else mask[i]))
    if summary.teacher is not None:
        semantics, known = np.asarray(summary.teacher.semantics[i]), np.asarray(summary.teacher.known[i])
        # Where it knows nothing, nothing is shown.
        teacher = FrameVolume(np.where(known, semantics, np.uint8(IGNORE)), _shares(summary.teacher.probability, i))
    frame = SceneFrame(
        title=title,
        images=np.asarray(batch.images[i]),
        prediction=FrameVolume(np.asarray(summary.semantics[i]), _shares(summary.probability, i)),
        truth=truth,
        teacher=teacher,
        counted=counted,
        aspects=split.camera_aspects(row, cameras),
    )
    return pack_frame(frame, cameras, config.grid.build().frame)


def _shares(probability: Any, i: int) -> np.ndarray | None:
    """Row `i` of 255ths [B, X, Y, Z], as float32 of 0 to 1."""
    return None if probability is None else np.asarray(probability[i]).astype(np.float32) / 255
