"""Mutations: the program changed in one line at a time, and whether the tests that are named for it notice.

    python tests/mutations.py                       # all of tests/mutation_list*.py
    python tests/mutations.py --only=geometry       # those whose file or text contains a word
    python tests/mutations.py --list                # what there is, without running anything

Each mutation is made in a scratch copy of this tree, never here. Prints a line for each, killed or survived, and exits
with 1 if any survives or cannot be judged. Not collected by pytest: all of them take a quarter of an hour on two cores.
"""

import argparse
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from mutation_list import MUTATIONS
from mutation_list_input import INPUT_MUTATIONS
from mutation_list_robots import ROBOT_MUTATIONS
from mutation_list_teacher import TEACHER_MUTATIONS

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = ("occjax", "tests", "configs", "converters", "main.py", "pyproject.toml")
# A mutation may make a loop endless; no mutation's tests take that long by themselves, and all of them take less than
# the second.
LIMIT_S, LIMIT_OF_ALL_S = 900, 7200
# Of pytest: all passed, some failed. Whatever else, no test was run that could tell.
PASSED, FAILED = 0, 1

# Importing takes longer than most tests: a server imports once what the program uses, and forks for each mutation.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jax", "flax.nnx", "optax", "orbax.checkpoint", "cv2"])


class Mutation(NamedTuple):
    """One change.

    Attributes:
      file: relative to the repository.
      old: text that occurs in it exactly once.
      new: what takes its place.
      tests: files or ids for pytest, with spaces between.
    """

    file: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}: {old}  ->  {new or '(nothing)'}"

    def problem(self) -> str:
        """What keeps it from being made, or nothing."""
        count = (REPOSITORY / self.file).read_text().count(self.old)
        return "" if count == 1 else f"the text occurs {count} times"


def copy_tree(folder: Path) -> Path:
    """A copy of what tests need, without what Python has compiled."""
    for name in COPIED:
        source, target = REPOSITORY / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return folder


def run_tests(tree: Path, tests: str, limit_s: int = LIMIT_S) -> tuple[int | None, str]:
    """Exit status of pytest in a tree, and the end of what it printed; FAILED where it takes too long."""
    process = FORKS.Process(target=run_pytest, args=(tree, tests.split()))
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        return FAILED, f"more than {limit_s} s"
    return process.exitcode, "\n".join((tree / "pytest.log").read_text().splitlines()[-15:])


def run_pytest(tree: Path, tests: list[str]) -> None:
    """In a process of its own: pytest on the tree as if it were started there; ends the process with its status."""
    with (tree / "pytest.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    (tree / "tmp").mkdir(exist_ok=True)
    shared = os.environ.get("OCCJAX_SHARED", str(REPOSITORY.parent / "shared"))
    os.environ.update(OCCJAX_SHARED=shared, TMPDIR=str(tree / "tmp"), PYTHONPATH=str(tree))
    # A file changed twice within a second would be taken for the one compiled before.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # One process, and only until the first failure; -m '' takes the slow ones too where they are named.
    sys.exit(int(pytest.main(["-q", "-x", "-n", "0", "-m", "", "--no-header", *tests])))


def judge(mutation: Mutation, trees: "queue.Queue[Path]") -> str:
    """killed (or by its time limit), survived, or why neither can be said."""
    tree = trees.get()
    path = tree / mutation.file
    original = path.read_text()
    try:
        path.write_text(original.replace(mutation.old, mutation.new))
        status, output = run_tests(tree, mutation.tests)
    finally:
        path.write_text(original)
        trees.put(tree)
    if status == FAILED:
        # An endless loop ends so; anything else deserves a look.
        return "killed by its time limit" if output.startswith("more than") else "killed"
    return "survived" if status == PASSED else f"not judged (pytest: {status})\n{output}"


def main() -> int:
    """Runs what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression that file, old or new text contain")
    parser.add_argument("--jobs", type=int, default=2, help="mutations at a time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only check and print them")
    options = parser.parse_args()
    lists = (MUTATIONS, TEACHER_MUTATIONS, INPUT_MUTATIONS, ROBOT_MUTATIONS)
    everything = [Mutation(file, *rest) for each in lists for file, changes in each.items() for rest in changes]
    mutations = [m for m in everything if re.search(options.only, str(m))]
    wrong = [f"{m}: {m.problem()}" for m in everything if m.problem()]
    if wrong:
        say("\n".join(["these cannot be made:", *wrong]))
        return 1
    if options.list:
        say("\n".join([*map(str, mutations), f"{len(mutations)} mutations"]))
        return 0

    started, trees, verdicts = time.time(), queue.Queue(), []
    with tempfile.TemporaryDirectory(prefix="occjax-mutations-") as folder:
        for job in range(options.jobs):
            trees.put(copy_tree(Path(folder) / str(job)))
        # A program is known by all that it computes: one that a mutation changes is compiled anew.
        os.environ["OCCJAX_TESTS_COMPILED"] = str(Path(folder) / "compiled")
        # Tests that fail anyway would kill every mutation.
        named = " ".join(sorted({test for m in mutations for test in m.tests.split()}))
        status, output = run_tests(trees.queue[0], named, LIMIT_OF_ALL_S) if mutations else (PASSED, "")
        if status != PASSED:
            say(f"the tests do not pass without any mutation:\n{output}")
            return 1
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutation, verdict in zip(mutations, pool.map(lambda m: judge(m, trees), mutations), strict=True):
                verdicts.append(verdict)
                say(f"[{len(verdicts)}/{len(mutations)}] {verdict:9} {mutation}")
    judged = zip(mutations, verdicts, strict=True)
    left = [f"{verdict}: {m}" for m, verdict in judged if not verdict.startswith("killed")]
    say("\n".join([f"{len(mutations) - len(left)} killed, {len(left)} not, in {time.time() - started:.0f} s", *left]))
    return 1 if left else 0


def say(text: str) -> None:
    """A line on the screen at once, also where it goes to a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
