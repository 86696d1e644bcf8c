"""Runs beside each other: mean and standard deviation over seeds, and what position alone would score.

python -m occjax.run.compare distilled='runs/distilled-*' supervised='runs/supervised-*'

Of each run it takes the student's evaluation of the whole validation split with the highest step, and compares it where
split, number of samples, grid, protocol and weights are the same; the line above the table says which they were.
"""

import argparse
import glob
import itertools
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from occjax.config import Config
from occjax.data.files import label_files
from occjax.data.index import SplitIndex, load_index
from occjax.errors import UserError
from occjax.label_sets import label_set
from occjax.metrics.prior import PositionPrior
from occjax.metrics.protocols import VoxelMiou
from occjax.run.evaluations import StoredEvaluation, full_evaluations
from occjax.run.initialisation import said_of
from occjax.run_config import load_config
from occjax.system.command_line import Parser, say, status

_SHOWN = {"miou": "mIoU", "miou_present": "mIoU, classes present", "iou": "IoU, occupied", "bev_miou": "BEV mIoU"}


class Wanted(NamedTuple):
    """Which evaluations of the runs are compared; None leaves it to the first run's configuration.

    Attributes:
      split: evaluated split.
      weights: "ema" or "raw".
      best: of the best checkpoint by validation, not of the newest.
    """

    split: str | None = None
    weights: str | None = None
    best: bool = False


def chosen_evaluations(workdirs: list[Path], wanted: Wanted) -> list[StoredEvaluation]:
    """A student's full evaluation of each run, the one of its highest step; all of one setting.

    Raises:
      UserError: a run has none, or runs were evaluated on other samples, grids, or by other protocols.
    """
    own = load_config(workdirs[0])
    split, weights = wanted.split or own.data.val_split, wanted.weights or own.eval.weights
    chosen: list[StoredEvaluation] = []
    for workdir in workdirs:
        found = full_evaluations(workdir)
        asked_for = [
            evaluation
            for evaluation in found
            if (evaluation.setting.split, evaluation.setting.weights, evaluation.is_best)
            == (split, weights, wanted.best)
        ]
        if not asked_for:
            there = "; ".join(f"{evaluation.path.parent.name}: {evaluation.setting}" for evaluation in found) or "none"
            flags = (
                f"{' --best' if wanted.best else ''} --config.data.val_split={split} --config.eval.weights={weights}"
            )
            raise UserError(
                f"{workdir} holds no evaluation of a student{' (best checkpoint)' if wanted.best else ''} on all of "
                f"split {split} with {weights} weights; run occjax --mode=eval --workdir={workdir}{flags} "
                f"--config.eval.max_samples=0 (full evaluations there: {there})"
            )
        # The first run's own grid is the one that all are compared on.
        setting = chosen[0].setting if chosen else asked_for[-1].setting._replace(grid=str(own.grid.build()))
        alike = [evaluation for evaluation in asked_for if evaluation.setting == setting]
        if not alike:
            raise UserError(
                f"evaluations of different samples, grids or protocols do not compare: {workdir} has "
                f"{asked_for[-1].setting}, wanted is {setting}; evaluate both runs on the same with --mode=eval"
            )
        chosen.append(alike[-1])
    return chosen


def _scores(evaluation: StoredEvaluation) -> dict[str, float]:
    # The first protocol is the label set's own.
    protocol = evaluation.results["protocols"][0]
    return {name: protocol[name] for name in _SHOWN if isinstance(protocol.get(name), float)}


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
    grid = config.grid.build()
    for path in label_files(split, labels, config.data).paths:
        yield labels.on(grid, labels.read(Path(path)))


def compare(groups: dict[str, list[Path]], wanted: Wanted | None = None) -> str:
    """What is compared, and a table: a row per group of runs (mean ± standard deviation), then the position priors.

    Raises:
      UserError: a group is empty, a run has no full evaluation as `wanted`, or they are not of one setting.
    """
    for name, workdirs in groups.items():
        if not workdirs:
            raise UserError(
                f"group {name!r} has no run: nothing in {Path.cwd()} matches; train first, or name the folders of its "
                f"runs as in {name}='runs/{name}-*'"
            )
    wanted = wanted or Wanted()
    chosen = chosen_evaluations([workdir for workdirs in groups.values() for workdir in workdirs], wanted)
    rows, rest = [], iter(chosen)
    for name, workdirs in groups.items():
        evaluations = list(itertools.islice(rest, len(workdirs)))
        scores = list(map(_scores, evaluations))
        cells = []
        for key in _SHOWN:
            values = [s[key] for s in scores if key in s]
            # One run has no deviation.
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "-")
        # Runs of a group that are of other steps, or did not start from the same weights, differ by more than seeds.
        steps = ", ".join(str(step) for step in sorted({evaluation.step for evaluation in evaluations}))
        started = dict.fromkeys(said_of(evaluation.results.get("initialisation")) for evaluation in evaluations)
        rows.append([f"{name} ({_count(len(workdirs), 'run')})", *cells, steps, "; ".join(started)])
    config = load_config(next(iter(groups.values()))[0])
    config.data.val_split = chosen[0].setting.split
    for name, scores in prior_scores(config).items():
        rows.append([name, *(f"{scores[key]:.2f}" if key in scores else "-" for key in _SHOWN), "-", "-"])
    columns = ["", *_SHOWN.values(), "step", "started from"]
    lines = [columns, ["---", *("---:" for _ in _SHOWN), "---:", "---"], *rows]
    about = f"students{', best checkpoints' if wanted.best else ''}: {chosen[0].setting}; per cent"
    return "\n".join([about, "", *("| " + " | ".join(line) + " |" for line in lines)])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = Parser("python -m occjax.run.compare", __doc__)
    parser.add_argument(
        "groups", nargs="+", type=_group, metavar="NAME=GLOB", help="a name and the workdirs of its runs"
    )
    parser.add_argument("--split", help="compare evaluations of this split, not of the first run's data.val_split")
    parser.add_argument(
        "--weights", choices=("ema", "raw"), help="compare evaluations of these, not of the first run's eval.weights"
    )
    parser.add_argument("--best", action=argparse.BooleanOptionalAction, help="compare the best checkpoints")
    options = parser.parse_args(arguments)

    def run() -> int:
        say(compare(dict(options.groups), Wanted(options.split, options.weights, bool(options.best))))
        return 0

    return status(run)


def _group(text: str) -> tuple[str, list[Path]]:
    name, equals, pattern = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must have an = between a name and its workdirs, not {text!r}")
    # Logs that somebody keeps beside the runs match as well.
    return name, [Path(path) for path in sorted(glob.glob(pattern)) if Path(path).is_dir()]


if __name__ == "__main__":
    sys.exit(main())
