"""A split of images, sweeps, labels and teacher files becomes a few large files of records, for slow file systems.

    python converters/pack.py --config=configs/kd.py --output=data/records
    python main.py --config=configs/kd.py --config.data.records_dir=data/records

Records hold what training reads at the configuration's input size. Run the same command again to go on where it
stopped. On a cluster, n jobs with --shard=0/n to --shard=n-1/n share the work and the folder.
"""

import logging
import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

# Configuration files import each other as the package `configs`, which lies beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Configuration to pack for (required), with overrides as for main.py, --config.section.field=value.",
)
_OUTPUT = flags.DEFINE_string("output", "", "Folder for the records.")
_SPLITS = flags.DEFINE_list("splits", [], "Splits to pack; default: data.train_split and data.val_split.")
_SAMPLES_PER_SHARD = flags.DEFINE_integer("samples_per_shard", 128, "Samples in one file.", lower_bound=1)
_SHARD = flags.DEFINE_string("shard", "0/1", "i/n: pack only every n-th file, from the i-th (0 to n-1).")
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes, each of which packs one file.", 1)


def main(_) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("occjax").setLevel(logging.INFO)
    from occjax.errors import UserError

    try:
        sys.exit(_pack())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _pack() -> int:
    from occjax.config_checks import problems
    from occjax.convert.pack import pack_split
    from occjax.data.index import load_index
    from occjax.errors import UserError

    config = _CONFIG.value
    if not _OUTPUT.value:
        raise UserError("name the folder for the records: --output=DIR")
    found = problems(config)
    if found:
        raise UserError("the configuration does not hold together:\n" + "\n".join(f"  {p}" for p in found))
    part = _part(_SHARD.value)
    output = Path(_OUTPUT.value)
    index = load_index(config.data, fallback_dir=output)
    failed = False
    for split in _SPLITS.value or dict.fromkeys((config.data.train_split, config.data.val_split)):
        packed = pack_split(
            config,
            index,
            split,
            output,
            samples_per_shard=_SAMPLES_PER_SHARD.value,
            part=part,
            workers=_WORKERS.value,
            progress=lambda line: print(line, flush=True),
        )
        each = f" ({packed.bytes_written / packed.written / 1e6:.2f} MB each)" if packed.written else ""
        print(
            f"{split}: {packed.written} samples packed into {output}{each}, {packed.kept} kept, "
            f"{len(packed.failures)} shards failed"
        )
        for name, reason in packed.failures:
            print(f"  {name} is not written: {reason}", file=sys.stderr)
        failed |= bool(packed.failures)
    return 1 if failed else 0


def _part(text: str) -> tuple[int, int]:
    from occjax.errors import UserError

    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise UserError(f"--shard must be i/n with 0 <= i < n, such as 0/8, not {text!r}")
    return int(number), int(count)


def _parse_flags(arguments: list[str]) -> list[str]:
    """absl's parser, after a look at what it would answer with a stack trace."""
    from occjax.errors import UserError
    from occjax.run.overrides import check_config_flag

    try:
        if any(argument.startswith("--config") for argument in arguments):
            check_config_flag(arguments)
        elif not any(argument.startswith("--help") for argument in arguments):
            raise UserError("name the configuration to pack for: --config=configs/kd.py")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    return app.parse_flags_with_usage(arguments)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
