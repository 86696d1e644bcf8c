"""Speed of dumps becoming teacher files on one core: `python -m occjax.benchmark.conversion DUMP [DUMP ...]`.

Reading and inflating a dump once, as numpy.load does it, is the floor; what is printed is processor time, so that other
work on the machine does not count. Files go to a temporary folder; no nuScenes tables are needed.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from occjax.benchmark.timing import machine
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.listing import list_dump
from occjax.convert.dump.measure import decode_ms, dump_kl, fastest_s
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion
from occjax.convert.dump.sample import SampleTask, convert_sample
from occjax.label_sets import LABEL_SETS
from occjax.system.command_line import Parser, say, status, words


def main(arguments: list[str] | None = None) -> int:
    """Prints a few lines per dump; returns the exit status."""
    parser = Parser("python -m occjax.benchmark.conversion", __doc__)
    parser.add_argument("dumps", nargs="+", type=Path, metavar="DUMP", help="as for occjax convert-teacher --input")
    parser.add_argument("--splits", type=words, default="train,val")
    parser.add_argument("--source-grid", choices=list(LABEL_SETS), default="surroundocc")
    parser.add_argument("--samples", type=int, default=8, help="of each dump")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest one counts")
    args = parser.parse_args(arguments)
    options = DumpOptions(splits=tuple(args.splits), grid=LABEL_SETS[args.source_grid].grid)

    def run() -> int:
        say(f"machine: {machine()}")
        for dump in args.dumps:
            for line in benchmark(dump, options, samples=args.samples, repeats=args.repeats):
                say(line)
        return 0

    return status(run)


def benchmark(dump: Path, options: DumpOptions, *, samples: int, repeats: int) -> list[str]:
    """Lines with rate, ratio to numpy.load, size, KL and decoding time of the first voxel files of a dump.

    Raises:
      DumpError: no such files, or one of them is damaged.
    """
    # .npz and .npy only, which numpy.load reads too.
    files = [
        file for file in list_dump(dump, options) if file.voxels is not None and file.voxels.suffix in (".npz", ".npy")
    ][:samples]
    if not files:
        raise DumpError(f"{dump} holds no voxel scores in .npz or .npy files to convert")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        tasks = [SampleTask(f"{i:06d}", file, output, options, None, None) for i, file in enumerate(files)]
        floor_s = sum(fastest_s(partial(_plain_load, file.path), repeats) for file in files) / len(files)
        convert_s = sum(fastest_s(partial(_converted, task), repeats) for task in tasks) / len(files)
        result = Conversion(output, dump.name, options.grid)
        for outcome in (_converted(task) for task in tasks):
            result.add(outcome.kind, outcome.bytes_written, outcome.active)
        result.kl = float(np.mean([dump_kl(task) for task in tasks]))
        result.write_manifest()
        result.decode_ms = decode_ms(output, [task.token for task in tasks])
    read_mb = sum(file.path.stat().st_size for file in files) / len(files) / 1e6
    return [
        f"{dump}: {len(files)} samples of {read_mb:.2f} MB",
        f"  numpy.load {1e3 * floor_s:.1f} ms, conversion {1e3 * convert_s:.1f} ms per sample: "
        f"{1 / convert_s:.1f} samples/s per core, {convert_s / floor_s:.2f} times numpy.load",
        *result.report(),
    ]


def _plain_load(path: Path) -> None:
    loaded = np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        # Lazy: an array is inflated when it is asked for.
        for name in loaded.files:
            loaded[name]


def _converted(task: SampleTask):
    outcome = convert_sample(task)
    if outcome.problem:
        raise DumpError(f"{task.file.path}: {outcome.problem}")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
