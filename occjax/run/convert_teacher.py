"""A teacher becomes the files that training reads: a dump of GaussianFormer's script or of any model, or its weights.

occjax convert-teacher --input=out/dump --output=data/teacher --data-root=data/nuscenes
occjax convert-teacher --weights=state_dict.pth --model=gs25600 --output=data/teacher --data-root=data/nuscenes

Besides, --also=KIND,… --also-dir=DIR writes what the dump script would. Its options keep their names here, with dashes
or underscores.
"""

import argparse
import os
import sys
from pathlib import Path

from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.option_fields import add_options, from_options
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion
from occjax.convert.dump.surface import SurfaceOptions
from occjax.errors import DataError
from occjax.label_sets import LABEL_SETS
from occjax.system.command_line import Parser, positive, say, shard, status, whole_numbers, words

# Of `occjax.teacher.variants`, which would bring jax along.
_MODELS = ("gs25600", "gs12800", "gs6400", "gs144000", "gs25600_solid")
# Options that say how weights are run: None where they are not given.
_OF_WEIGHTS = ("model", "draws", "backbone_dtype", "dup_mode", "shard", "metric")


def main(arguments: list[str] | None = None) -> int:
    """Converts as the options say; returns the exit status, 1 where an input gave nothing."""
    parser = _parser()
    options = parser.parse_args(arguments)
    problem = _misuse(options)
    if problem:
        parser.error(problem)
    return status(lambda: _convert(options))


def _misuse(options: argparse.Namespace) -> str:
    """What is wrong about options that do not go together; empty if nothing is."""
    if (options.input is None) == (options.weights is None):
        return "name what to convert: either a dump, --input=DIR, or a checkpoint, --weights=FILE"
    if options.output is None and not (options.weights and options.also_dir):
        return "name the folder for the teacher files: --output=DIR"
    without = [name for name in _OF_WEIGHTS if getattr(options, name) is not None] if options.input else []
    if without:
        return f"--{without[0].replace('_', '-')} means nothing with --input; it belongs to --weights"
    return ""


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
    output = Path(arguments.output or f"{arguments.also_dir}/teacher")
    result = _converted(arguments, output, data, options)
    if options.max_samples >= 0:
        say(f"partial: up to {options.max_samples} samples of each split, by --max-samples; all without it")
    say(f"{result.written} samples written to {output}, {result.kept} kept, {len(result.failures)} failed")
    for kind, folder in options.surface.folders.items():
        say(f"  {kind} in {folder}")
    for line in result.report():
        say(line)
    for path, reason in result.failures:
        # The path stands in most reasons already.
        sys.stderr.write(f"  failed: {path}: {reason.removeprefix(f'{path}: ')}\n")
    return 1 if result.failures else 0


def _converted(arguments: argparse.Namespace, output: Path, data: DataConfig, options: DumpOptions) -> Conversion:
    if arguments.weights:
        # Here, because a dump needs no network.
        from occjax.run.teacher_weights import teach_from_weights

        return teach_from_weights(arguments, output, data, options)
    return convert_dump(
        Path(arguments.input),
        output,
        data_config=data,
        options=options,
        audit=arguments.audit,
        workers=arguments.workers,
        progress=say,
        print_every_s=arguments.print_freq_s,
    )


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
    # Where nothing is read, the dump script's own options say where its scores go.
    folders = {"occ3d_logits_dir": arguments.dump_3d_dir, "bev_prob_dir": arguments.dump_bev_prob_dir}
    # A night on a GPU is not begun anew by accident; a dump is converted in minutes.
    skip_existing = bool(arguments.weights) if arguments.skip_existing is None else arguments.skip_existing
    return from_options(
        DumpOptions,
        arguments,
        splits=tuple(arguments.splits),
        grid=grid,
        infos=tuple(arguments.infos),
        output_grid=None if wanted == grid else wanted,
        skip_existing=skip_existing,
        surface=from_options(SurfaceOptions, arguments, **(folders if arguments.weights else {})),
    )


def _draws(text: str) -> str:
    if text != "argmax":
        positive(text)
    return text


def _pair(text: str) -> tuple[str, str]:
    split, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be SPLIT=FILE, not {text!r}")
    return split, path


def _parser() -> Parser:
    parser = Parser("occjax convert-teacher", __doc__)
    add = parser.add_argument
    add("--input", metavar="DIR", help="a dump: one folder per kind, train/ and val/ inside")
    add("--weights", metavar="FILE", help="a GaussianFormer checkpoint, .pth, instead of a dump")
    add("--output", metavar="DIR", help="folder for <token>.npz and manifest.json (with --also-dir: its teacher/)")

    add = parser.add_argument_group("weights").add_argument
    add("--model", choices=_MODELS, help="published configuration; default: the one whose shapes the checkpoint has")
    add("--draws", type=_draws, metavar="K", help="average K draws of depths, 1 as published; argmax draws none")
    add("--backbone-dtype", choices=("float32", "bfloat16"), help="of the image backbones (default: float32)")
    add(
        "--dup-mode",
        choices=("cpu_first", "cpu_last", "one_of"),
        help="Gaussians that share a cell of the sparse convolution: the first represents it (default), the last, or "
        "the first alone is left; to compare with a dump made on a GPU, where chance decides",
    )
    add("--shard", type=shard, metavar="i/n", help="this job's part of the samples; all jobs fill one --output")
    add("--metric", action=argparse.BooleanOptionalAction, help="score by the SurroundOcc protocol (default: do)")

    add = parser.add_argument_group("samples and labels").add_argument
    add("--data-root", metavar="DIR", help="nuScenes root: tables for matching, images, labels for the audit")
    add("--version", default="v1.0-trainval", help="of the tables")
    add("--splits", type=words, default="train,val", help="splits to convert, with commas between")
    add("--splits-file", default="", help="JSON of custom splits")
    add("--labels-dir", default="", metavar="DIR", help="default: <data-root>/surroundocc or gts")
    add("--index-dir", default="", metavar="DIR", help="where the index of the tables is cached")
    add("--infos", action="append", type=_pair, default=[], metavar="SPLIT=FILE", help="GaussianFormer info pickle")
    add("--audit", action=argparse.BooleanOptionalAction, default=True, help="score against the labels first")

    add = parser.add_argument_group("the run").add_argument
    add("--source-grid", choices=tuple(LABEL_SETS), default="surroundocc", help="grid that the dump lies on")
    add("--spatial-shape", type=whole_numbers, default="200,200,16", help="of the voxel scores")
    add("--grid", choices=("same", *LABEL_SETS), default="same", help="resample to this grid")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes; with --weights threads")
    add("--print-freq-s", type=float, default=5.0, help="seconds between progress lines")

    add_options(parser.add_argument_group("the dump, and what is made of it (names of the dump script)"), DumpOptions)
    add_options(parser.add_argument_group("the dump surface, written besides"), SurfaceOptions)
    parser.set_defaults(skip_existing=None)
    return parser
