"""Teacher outputs of GaussianFormer's dump script, or of any model, become the files that training reads.

occjax convert-teacher --input=out/dump --output=data/teacher --data-root=data/nuscenes

Options that the dump script has keep their names here, with dashes or underscores.
"""

import argparse
import os
import sys
from pathlib import Path

from occjax.command_line import Parser, say, status, whole_numbers, words
from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.option_fields import add_options, from_options
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.surface import SurfaceOptions
from occjax.errors import DataError
from occjax.label_sets import LABEL_SETS


def main(arguments: list[str] | None = None) -> int:
    """Converts as the options say; returns the exit status, 1 where an input gave nothing."""
    options = _parser().parse_args(arguments)
    return status(lambda: _convert(options))


def _convert(arguments: argparse.Namespace) -> int:
    data = DataConfig(
        root=arguments.data_root or DataConfig().root,
        version=arguments.version,
        splits_file=arguments.splits_file,
        labels_dir=arguments.labels_dir,
        labels=arguments.source_grid,
        index_dir=arguments.index_dir,
    )
    options = _options(arguments)  # first: a word mistyped is said before any disk is asked
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
    say(f"{result.written} samples written to {arguments.output}, {result.kept} kept, {len(result.failures)} failed")
    for line in result.report():
        say(line)
    for path, reason in result.failures:
        # The path stands in most reasons already.
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
        # A folder with another version is the usual reason.
        found = ", ".join(sorted(p.name for p in root.glob("v1.0*") if p.is_dir()))
        raise DataError(
            f"nuScenes version {data.version} is not in {root}; found {found or 'no v1.0-* folder'}; name another "
            "with --version, or another folder with --data-root"
        )


def _options(arguments: argparse.Namespace) -> DumpOptions:
    grid = LABEL_SETS[arguments.source_grid].grid
    # The dump script logs its shape, and users paste it: another one means another --source-grid.
    if arguments.spatial_shape != grid.shape:
        raise DumpError(f"--spatial-shape {arguments.spatial_shape} is not the shape of {grid}; see --source-grid")
    wanted = grid if arguments.grid == "same" else LABEL_SETS[arguments.grid].grid
    return from_options(
        DumpOptions,
        arguments,
        splits=tuple(arguments.splits),
        grid=grid,
        infos=tuple(arguments.infos),
        output_grid=None if wanted == grid else wanted,
        surface=from_options(SurfaceOptions, arguments),
    )


def _pair(text: str) -> tuple[str, str]:
    split, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be SPLIT=FILE, not {text!r}")
    return split, path


def _parser() -> Parser:
    parser = Parser("occjax convert-teacher", __doc__)
    add = parser.add_argument
    add("--input", required=True, metavar="DIR", help="the dump: one folder per kind, train/ and val/ inside")
    add("--output", required=True, metavar="DIR", help="folder for <token>.npz and manifest.json")

    add = parser.add_argument_group("samples and labels").add_argument
    add("--data-root", metavar="DIR", help="nuScenes root: tables for matching, labels for the audit")
    add("--version", default="v1.0-trainval", help="of the tables")
    add("--splits", type=words, default="train,val", help="splits of the dump, with commas between")
    add("--splits-file", default="", help="JSON of custom splits")
    add("--labels-dir", default="", metavar="DIR", help="default: <data-root>/surroundocc or gts")
    add("--index-dir", default="", metavar="DIR", help="where the index of the tables is cached")
    add("--infos", action="append", type=_pair, default=[], metavar="SPLIT=FILE", help="GaussianFormer info pickle")
    add("--audit", action=argparse.BooleanOptionalAction, default=True, help="score the dump against the labels first")

    add = parser.add_argument_group("the run").add_argument
    add("--source-grid", choices=tuple(LABEL_SETS), default="surroundocc", help="grid that the dump lies on")
    add("--spatial-shape", type=whole_numbers, default="200,200,16", help="of the voxel scores")
    add("--grid", choices=("same", *LABEL_SETS), default="same", help="resample to this grid")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    add("--print-freq-s", type=float, default=5.0, help="seconds between progress lines")

    add_options(parser.add_argument_group("the dump, and what is made of it (names of the dump script)"), DumpOptions)
    add_options(parser.add_argument_group("what to write of the dump surface besides (its options)"), SurfaceOptions)
    return parser
