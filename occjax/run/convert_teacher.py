"""Teacher outputs of GaussianFormer's dump script, or of any model, become the files that training reads.

occjax convert-teacher --input=out/dump --output=data/teacher --data-root=data/nuscenes

Options that the dump script has keep their names here, with dashes or underscores.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from occjax.command_line import Parser, say, status, whole_numbers, words
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions, MapOptions
from occjax.errors import DataError
from occjax.label_sets import LABEL_SETS

_DIR = {"default": "", "metavar": "DIR"}
_GRIDS = {name: labels.grid for name, labels in LABEL_SETS.items()}


def main(arguments: list[str] | None = None) -> int:
    """Converts as the options say; returns the exit status, 1 where an input gave nothing."""
    options = _parser().parse_args(arguments)
    return status(lambda: _convert(options))


def _convert(arguments: argparse.Namespace) -> int:
    defaults = DataConfig()
    data = DataConfig(
        root=arguments.data_root or defaults.root,
        version=arguments.version,
        splits_file=arguments.splits_file,
        labels_dir=arguments.labels_dir,
        labels=arguments.source_grid,
        index_dir=arguments.index_dir,
    )
    options = _options(arguments)
    _require_tables(data)
    result = convert_dump(
        Path(arguments.input),
        Path(arguments.output),
        data_config=data,
        options=options,
        audit=arguments.audit,
        workers=arguments.workers,
        progress=say,
        print_every_s=arguments.print_freq_s,
    )
    say(f"{result.written} samples written to {arguments.output}, {result.skipped} kept, {len(result.failures)} failed")
    for line in result.report():
        say(line)
    for path, reason in result.failures:
        sys.stderr.write(f"  failed: {path}: {reason.removeprefix(f'{path}: ')}\n")
    return 1 if result.failures else 0


def _require_tables(data: DataConfig) -> None:
    """Raises DataError, with this script's options in the remedy, where the tables are not."""
    root = Path(data.root)
    if not root.is_dir():
        raise DataError(
            f"nuScenes root {root} does not exist; name the folder that holds {data.version}/ with --data-root"
        )
    if not (root / data.version).is_dir():
        found = ", ".join(sorted(p.name for p in root.glob("v1.0*") if p.is_dir()))
        raise DataError(
            f"nuScenes version {data.version} is not in {root}; found {found or 'no v1.0-* folder'}; name another "
            "with --version, or another folder with --data-root"
        )


def _options(arguments: argparse.Namespace) -> DumpOptions:
    grid = _GRIDS[arguments.source_grid]
    if arguments.spatial_shape != grid.shape:
        raise DumpError(f"--spatial-shape {arguments.spatial_shape} is not the shape of {grid}; see --source-grid")
    wanted = _GRIDS.get(arguments.grid, grid)
    # Every other field has an option of its name.
    named = {name: value for name, value in vars(arguments).items() if name in _names(DumpOptions)}
    named |= {"grid": grid, "splits": tuple(arguments.splits), "infos": tuple(arguments.infos)}
    maps = MapOptions(**{name: getattr(arguments, name) for name in _names(MapOptions)})
    return DumpOptions(**named, maps=maps, output_grid=None if wanted == grid else wanted)


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _pair(text: str) -> tuple[str, str]:
    split, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be SPLIT=FILE, not {text!r}")
    return split, path


def _parser() -> argparse.ArgumentParser:
    parser = Parser("occjax convert-teacher", __doc__)
    add = parser.add_argument
    flag = argparse.BooleanOptionalAction
    add("--input", required=True, metavar="DIR", help="the dump: one folder per kind, train/ and val/ inside")
    add("--output", required=True, metavar="DIR", help="folder for <token>.npz and manifest.json")
    add("--form", choices=("compact", "dense"), default="compact", help="compact is for training, 40 times smaller")

    tables = parser.add_argument_group("samples and labels")
    tables.add_argument("--data-root", metavar="DIR", help="nuScenes root: tables for matching, labels for the audit")
    tables.add_argument("--version", default="v1.0-trainval", help="of the tables")
    tables.add_argument("--splits", type=words, default="train,val", help="splits of the dump, with commas between")
    tables.add_argument("--splits-file", default="", help="JSON of custom splits")
    tables.add_argument("--labels-dir", help="default: <data-root>/surroundocc or gts", **_DIR)
    tables.add_argument("--index-dir", help="where the index of the tables is cached", **_DIR)
    tables.add_argument(
        "--match",
        choices=("auto", "position", "sample_index", "token"),
        default="auto",
        help="what file names count or name: %%06d_0 positions in the split, six-digit indices, sample tokens; "
        "auto tells from the names",
    )
    tables.add_argument(
        "--infos", action="append", type=_pair, default=[], metavar="SPLIT=FILE", help="GaussianFormer info pickle"
    )
    tables.add_argument("--audit", action=flag, default=True, help="score the dump against the labels first")

    scores = parser.add_argument_group("what the dump holds (names of the dump script)")
    scores.add_argument("--spatial-shape", type=whole_numbers, default="200,200,16", help="of the voxel scores")
    scores.add_argument("--num-classes", type=int, default=18, help="free included")
    scores.add_argument("--free-id", type=int, default=17, help="class of free space")
    scores.add_argument(
        "--source-grid", choices=tuple(_GRIDS), default="surroundocc", help="grid that the dump lies on"
    )
    scores.add_argument("--dump-3d-dir", help="folder of the voxel scores; default: found in --input", **_DIR)
    scores.add_argument("--dump-3d-type", choices=("", "logits", "prob"), default="", help="files named so only")
    scores.add_argument("--dump-3d-key", default="", help="array in each file; default: found")
    scores.add_argument("--dump-bev-prob-dir", help="folder of the BEV maps; default: found in --input", **_DIR)
    scores.add_argument("--bev-prob-key", default="", help="array in each file; default: found")
    scores.add_argument("--bev-rotate-k", type=int, default=0, help="quarter turns of BEV maps")
    scores.add_argument("--bev-flip-x", action=flag, default=False, help="turn BEV maps round along x")
    scores.add_argument("--bev-flip-y", action=flag, default=False, help="turn BEV maps round along y")

    run = parser.add_argument_group("the run")
    run.add_argument("--grid", choices=("same", *_GRIDS), default="same", help="resample to this grid")
    run.add_argument("--max-samples", type=int, default=-1, help="per split; -1 = all")
    run.add_argument("--skip-existing", action=flag, default=False, help="go on where a run stopped")
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    run.add_argument("--print-freq-s", type=float, default=5.0, help="seconds between progress lines")

    maps = parser.add_argument_group("maps to write besides (names of the dump script)")
    maps.add_argument("--dump-occ3d-dir", help="hard labels", **_DIR)
    maps.add_argument("--dump-bev-dir", help="semantic BEV maps", **_DIR)
    maps.add_argument("--dump-bev-vis-dir", help="the same as PNG", **_DIR)
    maps.add_argument("--dump-gt-bev-dir", help="ground truth as semantic BEV maps", **_DIR)
    maps.add_argument("--dump-gt-bev-vis-dir", help="the same as PNG", **_DIR)
    maps.add_argument("--dump-gt-bev-mask-vis-dir", help="PNG of the columns that count", **_DIR)
    maps.add_argument(
        "--bev-sem-mode",
        choices=("overwrite", "priority"),
        default="overwrite",
        help="which voxel of a column wins: the last of the scan, or the class that comes first in --bev-priority-ids",
    )
    maps.add_argument(
        "--bev-scan-direction", choices=("low2high", "high2low"), default="low2high", help="of a column, along z"
    )
    maps.add_argument(
        "--bev-priority-ids", type=whole_numbers, default="4,10,3,9,5,6,2,7,8,1", help="most important first"
    )
    maps.add_argument("--vis-scale", type=int, default=4, help="pixels a cell of the PNGs")
    return parser
