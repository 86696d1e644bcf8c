"""Scores a folder of predictions without a model.

    python -m occjax.metrics --predictions DIR --labels ROOT --protocol occ3d,surroundocc,rayiou

DIR holds one `<sample token>.npz` (classes uint8 [X, Y, Z] as `semantics` or as its only array) or `.npy` per sample.
ROOT is the nuScenes root with `gts/` (Occ3D, RayIoU) or `surroundocc/`. Both label sets have 200×200×16 voxels but lie
in different frames: a prediction belongs to one of them, which its file says in an optional entry `grid`.
"""

import argparse
import logging
import sys
from pathlib import Path

from occjax.errors import UserError
from occjax.metrics.folder import PROTOCOLS, score_folder
from occjax.metrics.report import format_table, published_lines


def main(arguments: list[str] | None = None) -> int:
    """Parses, scores, prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m occjax.metrics",
        description="Score a folder of occupancy predictions by the published protocols.",
    )
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <sample token>.npz or .npy")
    parser.add_argument(
        "--labels", type=Path, required=True, help="nuScenes root with the tables and gts/, surroundocc/"
    )
    parser.add_argument("--protocol", default="surroundocc", help=f"one or more of {','.join(PROTOCOLS)}")
    parser.add_argument("--version", default="", help="nuScenes version; default: the only one in ROOT")
    parser.add_argument(
        "--split", default="", help="score this split, whole; default: every token that is in the folder"
    )
    parser.add_argument("--json", type=Path, default=None, help="also write the scores to this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("jax").setLevel(logging.WARNING)
    try:
        protocols = tuple(name.strip() for name in options.protocol.split(",") if name.strip())
        results = score_folder(
            options.predictions, options.labels, protocols=protocols, version=options.version, split=options.split
        )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    about = f"predictions {options.predictions}" + (f", split {options.split}" if options.split else "")
    for name, scores in results.items():
        columns = [(name, s) for s in scores]
        sys.stdout.write(format_table(columns, about=about, remarks=published_lines(scores[0])) + "\n\n")
    if options.json is not None:
        from occjax.workdir import versions, write_json

        content = {"predictions": str(options.predictions), "split": options.split}
        content |= {"protocols": [s.to_dict() for scores in results.values() for s in scores], "versions": versions()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
