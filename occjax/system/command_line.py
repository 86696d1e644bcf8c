"""Command lines, all of one kind: how options are spelt, what misuse is answered with, what is told on the screen."""

import argparse
import contextlib
import difflib
import errno
import io
import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging as absl_logging

from occjax.system.failures import DEVICE_REMEDY, told

# The next lines stand here, not in a function, because libraries read them when they are loaded, and because loader
# processes import again what their program imports.
# Each of them would repeat grain's remarks on profiling.
absl_logging.set_verbosity(absl_logging.ERROR)
# XLA's alarm that compiling is slow on a CPU asks for a bug report that nobody needs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# numpy's matrix products are small here: threads would spend more time on waiting for each other, in every loader
# process anew.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A loader that is stopped while it hands over a batch leaves it to Python's resource tracker, which frees it, and would
# report it as leaked.
os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")

# As absl spells switches, which the configuration's overrides go through.
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Parser(argparse.ArgumentParser):
    """Options with dashes or underscores, switches as --best, --no-best, --nobest or --best=true; misuse is one line.

    Overrides of the configuration, --config.section.field=value, are kept apart: see `parse_with_overrides`.
    """

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog=prog, description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
        keep_output_going()  # before --help

    def error(self, message: str):
        """Ends the program with status 2."""
        # One line: argparse would print the usage of all options before it.
        self.exit(2, "error: " + re.sub(r"^argument ([^:]+): ", r"\1 ", message) + "\n")

    def parse_known_args(self, args=None, namespace=None):
        """As argparse has it, after all options are spelt in one way."""
        arguments = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelt(argument) for argument in arguments], namespace)

    def parse_with_overrides(self, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and what is left for `occjax.run.overrides.apply_overrides`."""
        options, rest = self.parse_known_args(arguments)
        # A value alone, -0.5 say, is for the overrides to judge.
        unknown = [argument for argument in rest if re.match(r"--?(?!(no)?config\.)[a-zA-Z]", argument)]
        if unknown:
            known = [option for option in self._option_string_actions if option.startswith("--")]
            near = [self._meant(argument, known) for argument in unknown]
            meant = "".join(f"; did you mean {name}?" for name in dict.fromkeys(near) if name)
            self.error(f"unknown option {', '.join(unknown)}{meant or '; --help lists them'}")
        return options, rest

    @staticmethod
    def _meant(argument: str, known: list[str]) -> str:
        """The option that is spelt most like it, or the field of the configuration; empty where there is none."""
        name = "--" + argument.partition("=")[0].lstrip("-")
        if "." in name:
            return f"--config.{name[2:]}"
        return next(iter(difflib.get_close_matches(name, known, 1)), "")

    def _spelt(self, argument: str) -> str:
        # Behind = no shell expands a home folder: --workdir=~/runs/x, --infos=train=~/x.pkl.
        argument = re.sub(r"(?<==)~[^/=]*(?=/|$)", lambda match: os.path.expanduser(match[0]), argument)
        name, equals, value = argument.partition("=")
        # Fields of the configuration keep their underscores.
        if not name.startswith("--") or "." in name:
            return argument
        name = name.replace("_", "-")
        known = self._option_string_actions
        # --nobest, as absl has it, beside --no-best.
        if name not in known and "--no-" + name.removeprefix("--no") in known:
            name = "--no-" + name.removeprefix("--no")
        if equals and value in _TRUTH and isinstance(known.get(name), argparse.BooleanOptionalAction):
            return name if _TRUTH[value] else "--no-" + name.removeprefix("--")
        return name + equals + value


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Options with their defaults, where they have one that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = action.default not in (None, False, "", [], argparse.SUPPRESS)
        return f"{action.help} (default: %(default)s)" if says_something else action.help


def shard(text: str) -> tuple[int, int]:
    """Type of an option i/n, which part of the work is this job's: (i, n)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with 0 <= i < n, such as 0/8, not {text!r}")
    return int(number), int(count)


def positive(text: str) -> int:
    """Type of an option that counts, from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def words(text: str) -> list[str]:
    """Type of an option that lists names with commas between."""
    return [word for word in text.split(",") if word]


def whole_numbers(text: str) -> tuple[int, ...]:
    """Type of an option that lists numbers with commas between."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers separated by commas, not {text!r}") from None


def band(text: str) -> tuple[float, float]:
    """Type of an option LOW,HIGH, two numbers."""
    low, _, high = text.partition(",")
    try:
        found = float(low), float(high)
    except ValueError:
        found = (math.nan, math.nan)
    if not found[0] < found[1]:
        raise argparse.ArgumentTypeError(f"must be LOW,HIGH, two numbers in this order, not {text!r}")
    return found


def say(line: str) -> None:
    """Puts a line on the screen at once, into a pipe too."""
    sys.stdout.write(line + "\n")
    # A log that is watched through a pipe would show nothing for minutes.
    sys.stdout.flush()


def show_log(level: int = logging.INFO) -> None:
    """Puts the program's own story on the screen, from `level` on, and of other libraries' only what they warn of."""
    keep_output_going()
    # Forced, because absl and jax have put handlers of their own there by now.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("occjax").setLevel(level)
    # A log on a full disk costs its lines, and not a trace for each of them.
    logging.raiseExceptions = False


class _Outlet(io.FileIO):
    """A stream whose reader may go away (`| head -1`, a terminal that closes): what it would have read is dropped.

    Any other failure is raised once: the interpreter would meet it again at its end.
    """

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
                raise
            return len(data)


class _OutletText(io.TextIOWrapper):
    """Text of an outlet; a class of its own to be known by."""


def keep_output_going() -> None:
    """Has output neither end the work when its reader is gone, nor fail on a character that a terminal lacks."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # whoever started this has closed it
            setattr(sys, name, _OutletText(io.BufferedWriter(_Outlet(os.devnull, "wb"))))
        # Not where somebody has put a stream of their own, as tests do, nor twice.
        if type(stream) is not io.TextIOWrapper or stream.fileno() != number:
            continue
        stream.flush()
        buffer = io.BufferedWriter(_Outlet(number, "wb", closefd=False))
        how = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        setattr(sys, name, _OutletText(buffer, stream.encoding, errors="replace", **how))


class _Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception: what is half-written is removed on its way."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Context in which SIGTERM and SIGHUP unwind what goes on; the same signal again ends it at once."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated(number)

    is_main = threading.current_thread() is threading.main_thread()
    # What is ignored (nohup) or handled by somebody else stays so.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if is_main and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _unraisable(what: Any) -> None:
    # Files that were left open on a full disk would say it again, each with a trace, as they are collected.
    if not isinstance(what.exc_value, OSError):
        sys.__unraisablehook__(what)


def status(command: Callable[[], int], *, device_remedy: str = DEVICE_REMEDY) -> int:
    """Exit status of `command`, or 2 after a line about an error that the user can mend.

    A defect of the program is raised.
    """
    keep_output_going()
    try:
        with _terminable():
            return command()
    except Exception as error:
        line = told(error, device_remedy=device_remedy)
        if line is None:
            raise
        sys.stderr.write(f"error: {line}\n")
        if sys.unraisablehook is sys.__unraisablehook__:
            sys.unraisablehook = _unraisable
        return 2
    except KeyboardInterrupt:  # what was going on has said what it saved
        return 130
    except _Terminated as end:
        return 128 + end.args[0]
