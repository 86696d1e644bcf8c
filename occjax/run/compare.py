"""Runs beside each other: mean and standard deviation over seeds, and what position alone would score.

python -m occjax.run.compare distilled='runs/distilled-*' supervised='runs/supervised-*'
"""

import argparse
import glob
import json
import statistics
import sys
from pathlib import Path

from occjax.command_line import Parser, say, status
from occjax.config import Config
from occjax.data.files import label_files
from occjax.data.index import SplitIndex, load_index
from occjax.errors import UserError
from occjax.label_sets import label_set
from occjax.metrics.prior import PositionPrior
from occjax.metrics.protocols import VoxelMiou
from occjax.run.initialisation import said_of
from occjax.run_config import load_config

_SHOWN = {"miou": "mIoU", "miou_present": "mIoU, classes present", "iou": "IoU, occupied", "bev_miou": "BEV mIoU"}


def newest_scores(workdir: Path) -> tuple[dict[str, float], str]:
    """Per cent of the newest evaluation of a run, by name, and what the run's weights started from.

    Raises:
      UserError: the run was never evaluated.
    """
    # By time, because best and newest checkpoint may both have been evaluated.
    found = sorted((workdir / "eval").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"{workdir} holds no evaluation; run python main.py --mode=eval --workdir={workdir}")
    results = json.loads(found[-1].read_text(encoding="utf-8"))
    # The first protocol is the label set's own.
    protocol = results["protocols"][0]
    scores = {name: protocol[name] for name in _SHOWN if protocol.get(name) is not None}
    return scores, said_of(results.get("initialisation"))


def prior_scores(config: Config) -> dict[str, dict[str, float]]:
    """Per cent that the most frequent class of each voxel, and of each column, scores on the validation split.

    Counted over the whole training split, on the configuration's grid.
    """
    # What position alone would score is the floor that a model has to beat.
    index = load_index(config.data)
    grid = config.grid.build()
    prior = PositionPrior.of((s for s, _ in _labels(config, index.split(config.data.train_split))), grid.shape)
    guesses = {
        "most frequent class of the voxel": prior.by_voxel(),
        "most frequent class of the column": prior.by_column(),
    }
    states = {name: VoxelMiou.empty(label_set(config.data.labels), grid) for name in guesses}
    for semantics, mask in _labels(config, index.split(config.data.val_split)):
        states = {name: state.update(guesses[name], semantics, mask) for name, state in states.items()}
    scored = {}
    for name, state in states.items():
        scores = state.compute()[0]  # by the protocol's own mask
        scored[name] = {key: 100 * scores.summary[key] for key in _SHOWN if key in scores.summary}
    return scored


def _labels(config: Config, split: SplitIndex):
    labels = label_set(config.data.labels)
    crop = labels.grid.crop_slices(config.grid.build())
    for path in label_files(split, labels, config.data).paths:
        semantics, mask = labels.read(Path(path))
        yield semantics[crop], None if mask is None else mask[crop]


def compare(groups: dict[str, list[Path]]) -> str:
    """A table: a row per group of runs (mean ± standard deviation over its runs), then the position priors.

    Raises:
      UserError: a group is empty, or a run was never evaluated.
    """
    rows = []
    for name, workdirs in groups.items():
        if not workdirs:
            raise UserError(f"no run matches group {name!r}")
        scores, initialisations = zip(*map(newest_scores, workdirs), strict=True)
        cells = []
        for key in _SHOWN:
            values = [s[key] for s in scores if key in s]
            # One run has no deviation.
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "-")
        # Runs of a group that did not start from the same weights differ by more than their seeds.
        rows.append([f"{name} ({len(workdirs)} runs)", *cells, "; ".join(dict.fromkeys(initialisations))])
    # Of any run: all groups of a table share data and grid, or it compares nothing.
    config = load_config(next(iter(groups.values()))[0])
    for name, scores in prior_scores(config).items():
        rows.append([name, *(f"{scores[key]:.2f}" if key in scores else "-" for key in _SHOWN), "-"])
    lines = [["", *_SHOWN.values(), "started from"], ["---", *("---:" for _ in _SHOWN), "---"], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = Parser("python -m occjax.run.compare", __doc__)
    parser.add_argument(
        "groups", nargs="+", type=_group, metavar="NAME=GLOB", help="a name and the workdirs of its runs"
    )
    groups = dict(parser.parse_args(arguments).groups)

    def run() -> int:
        say(compare(groups))
        return 0

    return status(run)


def _group(text: str) -> tuple[str, list[Path]]:
    name, equals, pattern = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must have an = between a name and its workdirs, not {text!r}")
    return name, [Path(path) for path in sorted(glob.glob(pattern))]


if __name__ == "__main__":
    sys.exit(main())
