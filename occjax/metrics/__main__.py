"""Scores of a folder of predictions, without a model.

    python -m occjax.metrics --predictions DIR --labels ROOT --protocol occ3d,rayiou

DIR holds one `<sample token>.npz` (`semantics` or an only array) or `.npy` per sample: integer classes [X, Y, Z], or
scores [X, Y, Z, 18]. ROOT is the nuScenes root with `gts/` (Occ3D, RayIoU) or `surroundocc/`; its tables say where the
labels lie and where rays start. Both label sets have 200×200×16 voxels but lie in different frames: a prediction
belongs to one of them, which its file says in an optional entry `grid`, as `--mode=eval --save-predictions` writes it.
On arrays, from Python:

    state = VoxelMiou.empty(label_set("occ3d"))  # of occjax.metrics.protocols and occjax.label_sets; likewise RayIou
    state = state.update(prediction, semantics, camera_mask)  # once per sample
    masked, unmasked = state.compute()  # a list of scores
"""

import argparse
import logging
import sys
from pathlib import Path

from occjax.metrics.confusion import ScoringError
from occjax.metrics.folder import protocol_names, score_folder
from occjax.metrics.report import format_table, remarks_of
from occjax.metrics.scores import Scores
from occjax.storage import versions, write_json
from occjax.system.command_line import Parser, status, words


def main(arguments: list[str] | None = None) -> int:
    """Parses, scores, prints; returns the exit code."""
    parser = Parser("python -m occjax.metrics", __doc__)
    add = parser.add_argument
    add("--predictions", type=Path, required=True, metavar="DIR", help="folder of <sample token>.npz or .npy")
    add("--labels", type=Path, required=True, metavar="ROOT", help="root with the tables and gts/, surroundocc/")
    add("--protocol", type=words, default="surroundocc", help=f"one or more of {','.join(protocol_names())}")
    add("--version", default="", help="nuScenes version; by default the only one in ROOT")
    add("--split", default="", help="score this split, whole; by default every token that is in the folder")
    add("--json", type=Path, help="also write the scores to this file")
    options = parser.parse_args(arguments)
    # The story goes to standard error, because standard output is the table.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("occjax").setLevel(logging.INFO)
    return status(lambda: _score(options))


def _score(options: argparse.Namespace) -> int:
    results = score_folder(
        options.predictions,
        options.labels,
        protocols=tuple(name.strip() for name in options.protocol),
        version=options.version,
        split=options.split,
    )
    # Before the table, so that a path that cannot be written is not found out by scrolling up.
    if options.json is not None:
        _write_scores(options.json, results, predictions=options.predictions, split=options.split)
    about = f"predictions {options.predictions}" + (f", split {options.split}" if options.split else "")
    for name, scores in results.items():
        columns = [(name, s) for s in scores]
        sys.stdout.write(format_table(columns, about=about, remarks=remarks_of(scores[0])) + "\n\n")
    return 0


def _write_scores(path: Path, results: dict[str, list[Scores]], *, predictions: Path, split: str) -> None:
    content = {"predictions": str(predictions), "split": split}
    content |= {"protocols": [s.to_dict() for scores in results.values() for s in scores], "versions": versions()}
    try:
        write_json(path, content)
    except OSError as error:
        raise ScoringError(f"--json {path} cannot be written ({error.strerror}); name a file elsewhere") from error


if __name__ == "__main__":
    sys.exit(main())
