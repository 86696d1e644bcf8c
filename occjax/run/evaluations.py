"""Evaluations of a run, a folder each below `eval`: which folder is whose, and what those that are there speak of."""

import json
from pathlib import Path
from typing import NamedTuple

from occjax.config import Config
from occjax.data.index import SplitIndex
from occjax.grid import VoxelGrid
from occjax.run_config import WorkdirError, load_config

_EVAL = "eval"
_STUDENT = "student"


def evaluation_dir(
    config: Config, workdir: Path, split: SplitIndex, *, step: int | None = None, best: bool = False
) -> Path:
    """The folder that an evaluation writes into; no two that mean different things share one.

    `step-400` is the run's student after 400 steps: averaged weights, the whole of the run's validation split, on its
    grid. What differs from that stands in the name: `step-400-best` (the best checkpoint, which may be of the same step
    but has outputs of its own), `step-400-raw`, `step-400-mini_val`, `step-400-first-8`. The teacher's files are
    `teacher`.

    Args:
      config: of the evaluation; its label set, grid, weights and number of samples count.
      workdir: of the run; a folder without one is taken for that of a run on the split "val" and on `config`'s grid.
      split: what is evaluated.
      step: of the checkpoint; None = the teacher's files.
      best: see above.
    """
    try:
        own = load_config(workdir)
    except WorkdirError:  # no run, or one of another version, which is evaluated by a configuration that was named
        own = Config(grid=config.grid)
    grid = config.grid.build()
    name = "teacher" if step is None else f"step-{step}"
    name += "-best" if best else ""
    name += f"-{config.eval.weights}" if step is not None and config.eval.weights != Config().eval.weights else ""
    name += f"-{split.name}" if split.name != own.data.val_split else ""
    name += f"-{config.data.labels}" if config.data.labels != own.data.labels else ""
    name += f"-{_in_a_name(grid)}" if grid != own.grid.build() else ""
    limit = config.eval.max_samples
    return workdir / _EVAL / (name + (f"-first-{limit}" if 0 < limit < len(split) else ""))


def _in_a_name(grid: VoxelGrid) -> str:
    numbers = (
        "x".join(f"{value:g}" for value in values) for values in (grid.lower_m, (grid.voxel_size_m,), grid.shape)
    )
    return "_".join([grid.frame, *numbers])


class Setting(NamedTuple):
    """What two scores have to share before they compare.

    Attributes:
      protocol: name and mask of the first protocol, the label set's own.
      split: its name.
      samples: how many it has.
      grid: in words.
      weights: "ema" or "raw".
    """

    protocol: str
    split: str
    samples: int
    grid: str
    weights: str

    def __str__(self) -> str:
        return f"split {self.split} ({self.samples} samples), {self.protocol}, grid {self.grid}, {self.weights} weights"


class StoredEvaluation(NamedTuple):
    """A student's evaluation of a whole split, as metrics.json has it.

    Attributes:
      path: of metrics.json.
      setting: see there.
      step: of the checkpoint.
      is_best: whether it was the best checkpoint by validation, and not the newest.
      results: all of metrics.json.
    """

    path: Path
    setting: Setting
    step: int
    is_best: bool
    results: dict


def full_evaluations(workdir: Path) -> list[StoredEvaluation]:
    """A student's evaluations of whole splits below `workdir`, by step; the teacher's, partial and damaged ones are not
    among them, nor those of versions that did not record how many samples the split has."""
    found = []
    for path in (workdir / _EVAL).glob("*/metrics.json"):
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            if results["subject"] != _STUDENT or results["samples"] != results["split_samples"]:
                continue
            protocol = results["protocols"][0]
            setting = Setting(
                f"{protocol['protocol']}, {protocol['mask']}",
                results["split"],
                results["samples"],
                protocol["grid"],
                results["weights"],
            )
            is_best = path.parent.name.startswith(f"step-{results['step']}-best")
            if isinstance(results["step"], int):
                found.append(StoredEvaluation(path, setting, results["step"], is_best, results))
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):  # no JSON, or not ours
            continue
    return sorted(found, key=lambda evaluation: evaluation.step)
