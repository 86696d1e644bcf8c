"""Cases of the fuzzer: what a reader may do with damaged input, and how it is watched while it does it."""

import contextlib
import os
import random
import signal
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fuzz_targets import Target

from occjax.errors import UserError

LONGEST_S = 10.0
# Beside twice the sane case: messages, and the mutated file where it is longer than the sane one.
_ROOM = 8 << 20
_FORBIDDEN = {
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "os.remove_all",
}


class Finding(NamedTuple):
    """A case that a reader did not stand."""

    target: str
    case: int
    what: str
    trace: str


class Hang(BaseException):
    """Reading took longer than it may; no `except Exception` of a reader holds it up."""


class _Watch:
    """What is executed while cases run: an audit hook, of which a process cannot rid itself."""

    def __init__(self):
        self.is_on, self.seen = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, _) -> None:
        if self.is_on and event in _FORBIDDEN:
            self.seen.append(event)


_WATCH = _Watch()


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the standard error stream of the process: decoders complain there, past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Gives what says how many bytes Python took at most within the context, beyond those that it had before."""
    # Once and for all: stopped while a thread of tensorstore allocates, the interpreter breaks down now and then.
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, peaks = tracemalloc.get_traced_memory()[0], []
    try:
        yield lambda: peaks[0] - before
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class Fuzzer:
    """All targets in a folder of their own, run case by case.

    Attributes:
      accepted, refused: cases of each target that were read, and that were refused in words.
      slowest: seconds of the slowest case of each target.
      findings: cases that were neither.
    """

    def __init__(self, folder: Path, targets: dict[str, Target], seed: int):
        self._folder, self._targets, self._seed = folder, targets, seed
        self.accepted, self.refused, self.slowest = Counter(), Counter(), Counter()
        self.findings: list[Finding] = []
        self._peaks = {name: self._peak_of_sane(target) for name, target in targets.items()}

    def _peak_of_sane(self, target: Target) -> int:
        target.read(target.sane)  # imports and caches are nobody's memory
        with _traced() as peak:
            target.read(target.sane)
        return peak()

    def mutated(self, case: int) -> tuple[str, bytes]:
        """Target and input of a case: they depend on the seed and its number alone."""
        name = list(self._targets)[case % len(self._targets)]
        r = random.Random(f"{self._seed}/{case}")
        target = self._targets[name]
        data = target.mutate(target.sane, r)
        if target.path is not None:  # a mutation may have used the place
            target.path.write_bytes(target.sane)
        return name, data

    def run(self, case: int) -> None:
        """One case; what is wrong with it becomes a finding."""
        name, data = self.mutated(case)
        target = self._targets[name]
        before = _files(self._folder)
        found = trace = ""
        _WATCH.seen.clear()
        started = time.monotonic()
        try:
            with _silent(), _limited(LONGEST_S), _traced() as peak:
                _WATCH.is_on = True
                target.read(data)
            self.accepted[name] += 1
        except UserError:
            self.refused[name] += 1
        except Hang:
            found, trace = f"hangs, stopped after {LONGEST_S:g} s", traceback.format_exc()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found, trace = f"{type(error).__name__}: {str(error)[:200]}", traceback.format_exc()
        finally:
            _WATCH.is_on = False
        self.slowest[name] = max(self.slowest[name], time.monotonic() - started)
        limit = 2 * self._peaks[name] + len(data) + _ROOM
        if not found and peak() > limit:
            found = f"takes {peak() / 1e6:.0f} MB, the sane case {self._peaks[name] / 1e6:.1f} MB"
        if _WATCH.seen:
            found = f"executes {', '.join(_WATCH.seen)}"
        left = _files(self._folder) ^ before
        if any(part.endswith(".tmp") for part in left) or (left and not target.may_write):
            found = found or f"leaves {', '.join(sorted(left))}"
        if target.path is not None:
            target.path.write_bytes(target.sane)
        if found:
            self.findings.append(Finding(name, case, found, trace))

    def table(self) -> str:
        """A row per target, then the findings."""
        lines = [f"{'input':28s} {'cases':>6s} {'read':>6s} {'refused':>8s} {'wrong':>6s} {'slowest':>9s}"]
        wrong = Counter(finding.target for finding in self.findings)
        for name in self._targets:
            counts = self.accepted[name], self.refused[name], wrong[name]
            lines.append(
                f"{name:28s} {sum(counts):6d} {counts[0]:6d} {counts[1]:8d} {counts[2]:6d} {self.slowest[name]:7.2f} s"
            )
        lines += [f"{f.target}, case {f.case} of seed {self._seed}: {f.what}" for f in self.findings]
        return "\n".join(lines)
