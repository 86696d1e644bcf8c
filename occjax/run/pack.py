"""A split of images, sweeps, labels and teacher files becomes a few large files of records, for slow file systems.

occjax pack --config=configs/kd.py --output=data/records
occjax --config=configs/kd.py --config.data.records_dir=data/records

Records hold the bytes of the files that the configuration reads, whatever its input size, and are read as the files
are. Run the same command again to go on where it stopped. On a cluster, n jobs with --shard=0/n to --shard=n-1/n share
the work and the folder.
"""

import argparse
import os
import sys
from pathlib import Path

from occjax.config import Config
from occjax.config_checks import require_sound
from occjax.convert.pack import pack_split
from occjax.data.index import load_index
from occjax.run.overrides import apply_overrides, load_config_file
from occjax.system.command_line import Parser, positive, say, shard, show_log, status, words


def main(arguments: list[str] | None = None) -> int:
    """Packs as the options say; returns the exit status, 1 where a shard could not be written."""
    parser = _parser()
    options, overrides = parser.parse_with_overrides(sys.argv[1:] if arguments is None else arguments)
    if not options.config:
        parser.error("name the configuration to pack for: --config=configs/kd.py")
    if not options.output:
        parser.error("name the folder for the records: --output=DIR")
    show_log()
    return status(lambda: _pack(apply_overrides(load_config_file(options.config), overrides), options))


def _pack(config: Config, options: argparse.Namespace) -> int:
    # First: a record of the wrong cameras costs hours.
    require_sound(config)
    output = Path(options.output)
    index = load_index(config.data, fallback_dir=output)
    failed = False
    for split in options.splits or dict.fromkeys((config.data.train_split, config.data.val_split)):
        packed = pack_split(
            config,
            index,
            split,
            output,
            samples_per_shard=options.samples_per_shard,
            part=options.shard,
            workers=options.workers,
            progress=say,
        )
        each = f" ({packed.bytes_written / packed.written / 1e6:.2f} MB each)" if packed.written else ""
        say(
            f"{split}: {packed.written} samples packed into {output}{each}, {packed.kept} kept, "
            f"{len(packed.failures)} shards failed"
        )
        # Not raised, so that one damaged image does not keep the other shards from being packed.
        for name, reason in packed.failures:
            sys.stderr.write(f"  {name} is not written: {reason}\n")
        failed |= bool(packed.failures)
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser("occjax pack", __doc__)
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help="configuration to pack for (required), with overrides as for occjax, --config.section.field=value",
    )
    add("--output", metavar="DIR", help="folder for the records (required)")
    add("--splits", type=words, help="splits to pack; by default data.train_split and data.val_split")
    add("--samples-per-shard", type=positive, default=128, help="samples in one file")
    add("--shard", type=shard, default="0/1", help="i/n: pack only every n-th file, from the i-th (0 to n-1)")
    # All images are decoded to check them, which keeps a core busy.
    add("--workers", type=positive, default=os.cpu_count() or 1, help="processes, each of which packs one file")
    return parser
