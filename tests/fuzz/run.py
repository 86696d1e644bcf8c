"""The fuzzer by command: python tests/fuzz/run.py --cases=10000 --seed=1; with --case=N that one alone."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "support"), str(TESTS / "fuzz")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def main() -> int:
    """Runs the cases; 1 where a reader did not stand one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--only", default="", help="inputs whose name has this in it")
    options = parser.parse_args()

    import logging

    from fuzz_cases import Fuzzer
    from fuzz_targets import make_targets

    logging.disable(logging.WARNING)  # an index that cannot be written, ten thousand times
    with tempfile.TemporaryDirectory(prefix="occjax-fuzz-") as folder:
        targets = make_targets(Path(folder))
        fuzzer = Fuzzer(Path(folder), targets, options.seed)
        names, started = list(targets), time.monotonic()
        cases = range(options.cases) if options.case is None else [options.case]
        for case in cases:
            if options.only and options.only not in names[case % len(names)]:
                continue
            known = len(fuzzer.findings)
            fuzzer.run(case)
            for finding in fuzzer.findings[known:]:  # at once: the rest may take an hour
                sys.stdout.write(f"\n{finding.target}, case {finding.case}: {finding.what}\n{finding.trace}")
                sys.stdout.flush()
            if case % 500 == 499:
                rate = (case + 1) / (time.monotonic() - started)
                sys.stdout.write(f"{case + 1} cases, {rate:.0f}/s, {len(fuzzer.findings)} wrong\n")
                sys.stdout.flush()
        sys.stdout.write(f"\n{fuzzer.table()}\n")
    return bool(fuzzer.findings)


if __name__ == "__main__":
    sys.exit(main())
