"""Teacher outputs of GaussianFormer's dump script, or of any model, become the files that training reads.

    python converters/teacher_to_npz.py --input=out/dump --output=data/teacher --data-root=data/nuscenes

Options that the dump script has keep their names here, with dashes or underscores.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_DIR = {"default": "", "metavar": "DIR"}


def main(argv: list[str] | None = None) -> int:
    from occjax.errors import UserError

    arguments = _parser().parse_args([_dashed(argument) for argument in (sys.argv[1:] if argv is None else argv)])
    try:
        return _convert(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _convert(arguments: argparse.Namespace) -> int:
    from occjax.config import DataConfig
    from occjax.convert.dump.convert import convert_dump

    defaults = DataConfig()
    data = DataConfig(
        root=arguments.data_root or defaults.root,
        version=arguments.version,
        splits_file=arguments.splits_file,
        labels_dir=arguments.labels_dir,
        labels="occ3d" if arguments.source_grid == "occ3d" else "surroundocc",
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
        progress=lambda line: print(line, flush=True),
        print_every_s=arguments.print_freq_s,
    )
    print(
        f"{result.written} samples written to {arguments.output}, {result.skipped} kept, {len(result.failures)} failed"
    )
    for line in result.report():
        print(line)
    for path, reason in result.failures:
        print(f"  failed: {path}: {reason.removeprefix(f'{path}: ')}", file=sys.stderr)
    return 1 if result.failures else 0


def _require_tables(data) -> None:
    """Raises DataError, with this script's options in the remedy, where the tables are not."""
    from occjax.errors import DataError

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


def _options(arguments: argparse.Namespace):
    from occjax.convert.dump.arrays import DumpError
    from occjax.convert.dump.options import DumpOptions, MapOptions
    from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID

    grids = {"surroundocc": SURROUNDOCC_GRID, "occ3d": OCC3D_GRID}
    grid = grids[arguments.source_grid]
    shape = _numbers(arguments.spatial_shape, "--spatial-shape")
    if shape != grid.shape:
        raise DumpError(f"--spatial-shape {arguments.spatial_shape} is not the shape of {grid}; see --source-grid")
    wanted = grids.get(arguments.grid, grid)
    maps = MapOptions(
        dump_occ3d_dir=arguments.dump_occ3d_dir,
        dump_bev_dir=arguments.dump_bev_dir,
        dump_bev_vis_dir=arguments.dump_bev_vis_dir,
        dump_gt_bev_dir=arguments.dump_gt_bev_dir,
        dump_gt_bev_vis_dir=arguments.dump_gt_bev_vis_dir,
        dump_gt_bev_mask_vis_dir=arguments.dump_gt_bev_mask_vis_dir,
        bev_sem_mode=arguments.bev_sem_mode,
        bev_scan_direction=arguments.bev_scan_direction,
        bev_priority_ids=_numbers(arguments.bev_priority_ids, "--bev-priority-ids"),
        vis_scale=arguments.vis_scale,
    )
    return DumpOptions(
        splits=tuple(arguments.splits.split(",")),
        grid=grid,
        num_classes=arguments.num_classes,
        free_id=arguments.free_id,
        dump_3d_dir=arguments.dump_3d_dir,
        dump_3d_type=arguments.dump_3d_type,
        dump_3d_key=arguments.dump_3d_key,
        dump_bev_prob_dir=arguments.dump_bev_prob_dir,
        bev_prob_key=arguments.bev_prob_key,
        bev_rotate_k=arguments.bev_rotate_k,
        bev_flip_x=arguments.bev_flip_x,
        bev_flip_y=arguments.bev_flip_y,
        match=arguments.match,
        infos=tuple(_pair(text) for text in arguments.infos),
        form=arguments.form,
        output_grid=None if wanted == grid else wanted,
        max_samples=arguments.max_samples,
        skip_existing=arguments.skip_existing,
        maps=maps,
    )


def _dashed(argument: str) -> str:
    """--skip_existing=... as the dump script logs it becomes --skip-existing=..."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def _numbers(text: str, name: str) -> tuple[int, ...]:
    from occjax.convert.dump.arrays import DumpError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise DumpError(f"{name} must be whole numbers separated by commas, not {text!r}") from error


def _pair(text: str) -> tuple[str, str]:
    from occjax.convert.dump.arrays import DumpError

    split, equals, path = text.partition("=")
    if not equals:
        raise DumpError(f"--infos must be SPLIT=FILE, not {text!r}")
    return split, path


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Options with their defaults, where they have one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = action.default not in (None, "", [], argparse.SUPPRESS) and action.dest != "help"
        return f"{action.help} (default: %(default)s)" if says_something else action.help


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_HelpFormatter)
    add = parser.add_argument
    flag = argparse.BooleanOptionalAction
    add("--input", required=True, metavar="DIR", help="the dump: one folder per kind, train/ and val/ inside")
    add("--output", required=True, metavar="DIR", help="folder for <token>.npz and manifest.json")
    add("--form", choices=("compact", "dense"), default="compact", help="compact is for training, 60 times smaller")

    tables = parser.add_argument_group("samples and labels")
    tables.add_argument("--data-root", metavar="DIR", help="nuScenes root: tables for matching, labels for the audit")
    tables.add_argument("--version", default="v1.0-trainval", help="of the tables")
    tables.add_argument("--splits", default="train,val", help="splits of the dump, with commas between")
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
    tables.add_argument("--infos", action="append", default=[], metavar="SPLIT=FILE", help="GaussianFormer info pickle")
    tables.add_argument("--audit", action=flag, default=True, help="score the dump against the labels first")

    scores = parser.add_argument_group("what the dump holds (names of the dump script)")
    scores.add_argument("--spatial-shape", default="200,200,16", help="of the voxel scores")
    scores.add_argument("--num-classes", type=int, default=18, help="free included")
    scores.add_argument("--free-id", type=int, default=17, help="class of free space")
    scores.add_argument(
        "--source-grid", choices=("surroundocc", "occ3d"), default="surroundocc", help="grid that the dump lies on"
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
    run.add_argument("--grid", choices=("same", "surroundocc", "occ3d"), default="same", help="resample to this grid")
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
    maps.add_argument("--bev-priority-ids", default="4,10,3,9,5,6,2,7,8,1", help="most important first")
    maps.add_argument("--vis-scale", type=int, default=4, help="pixels a cell of the PNGs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
