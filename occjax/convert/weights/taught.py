"""One sample that a teacher's network predicted: decided on, written, and scored by the published protocol."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float16, UInt8

from occjax.convert.dump.measure import compact_kl
from occjax.convert.dump.sample import (
    SampleResult,
    SampleTask,
    hard_labels,
    read_truth,
    write_sample,
)
from occjax.convert.dump.scores import scores_of
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import label_set_of_grid
from occjax.metrics.protocols import VoxelMiou

Values = Float16[np.ndarray, "x y z k"]


class TaughtSample(NamedTuple):
    """What became of a sample.

    Attributes:
      result: as of a dump's sample.
      labels: uint8 [X, Y, Z] predicted classes; None where nothing was written.
      truth: uint8 [X, Y, Z] classes; None where there are no labels, or none that can be read.
      kl: mean KL(values || file) in nats per voxel; None where it was not asked for.
    """

    result: SampleResult
    labels: UInt8[np.ndarray, "x y z"] | None = None
    truth: UInt8[np.ndarray, "x y z"] | None = None
    kl: float | None = None


def write_taught(task: SampleTask, values: Values | UserError, *, measures_kl: bool) -> TaughtSample:
    """Writes teacher file and dump surface of a sample; what went wrong becomes a result with a problem.

    Args:
      task: the sample.
      values: what the teacher predicts, or why it does not.
      measures_kl: of a compact file on the teacher's own grid alone.
    """
    try:
        if isinstance(values, UserError):
            raise values
        scores, truth = scores_of(values, task.options), None
        if task.labels is not None:
            try:
                truth = read_truth(task)
            except (UserError, OSError):
                # What is drawn from labels needs them; a score is nice to have.
                if task.options.surface.needs_truth:
                    raise
        result = write_sample(task, scores, truth)
        kl = compact_kl(task.target, scores) if measures_kl else None
        return TaughtSample(result, hard_labels(scores.sparse, task.options.grid), truth and truth[0], kl)
    except (UserError, OSError) as error:
        return TaughtSample(SampleResult(str(error), "", 0, 0))


class TeacherScore:
    """mIoU and IoU of all samples so far, by the protocol of the label set that the teacher's grid belongs to.

    Attributes:
      samples: how many were scored.
    """

    def __init__(self, grid: VoxelGrid):
        self._state = VoxelMiou.empty(label_set_of_grid(grid), grid)

    @property
    def samples(self) -> int:
        """How many had labels."""
        return self._state.samples

    def update(self, sample: TaughtSample) -> None:
        """Counts a sample that has truth."""
        if sample.truth is not None and sample.labels is not None:
            self._state = self._state.update(sample.labels, sample.truth)

    def remark(self) -> str:
        """For the progress line; empty where nothing is scored."""
        if not self.samples:
            return ""
        summary = self._state.compute()[0].summary
        return f"mIoU {100 * summary['miou']:.2f}, IoU {100 * summary['iou']:.2f}"

    def __str__(self) -> str:
        scores = self._state.compute()[0]
        present = 100 * scores.summary["miou_present"]
        return (
            f"{scores.protocol} of {self.samples} samples, {scores.mask}: {self.remark()} ({present:.2f} over the "
            f"classes present){'; ' if scores.remark else ''}{scores.remark}"
        )
