"""Options may be spelt in every way that users of one of the tools know; misuse is one line."""

import argparse
import os
import signal
import subprocess
import sys

import pytest

from occjax.errors import UserError
from occjax.system.command_line import Parser, shard, status, whole_numbers, words


def parser() -> Parser:
    parser = Parser("tool", None)
    parser.add_argument("--save-predictions", action=argparse.BooleanOptionalAction)
    parser.add_argument("--audit", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--max-samples", type=int, default=-1)
    parser.add_argument("--shard", type=shard, default="0/1")
    parser.add_argument("--tokens", type=words)
    parser.add_argument("--priority-ids", type=whole_numbers)
    return parser


@pytest.mark.parametrize("spelling", ["--save-predictions", "--save_predictions", "--save_predictions=true"])
def test_switches_on(spelling):
    assert parser().parse_args([spelling]).save_predictions is True


@pytest.mark.parametrize("spelling", ["--no-audit", "--noaudit", "--audit=false"])
def test_switches_off(spelling):
    assert parser().parse_args([spelling]).audit is False


def test_a_home_folder_behind_an_equals_sign_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    options, overrides = parser().parse_with_overrides(["--tokens=~/a", "--config.data.root=~", "--config.name=a~/b"])
    assert options.tokens == ["/home/somebody/a"]
    assert overrides == ["--config.data.root=/home/somebody", "--config.name=a~/b"]


def test_values():
    options = parser().parse_args(["--max_samples", "3", "--shard=1/4", "--tokens=a,b"])
    assert (options.max_samples, options.shard, options.tokens, options.audit) == (3, (1, 4), ["a", "b"], True)
    assert options.save_predictions is None


def test_overrides_are_kept_as_they_are_and_apart():
    arguments = ["--max-samples=1", "--config.data.batch_size=2", "--noconfig.augment.photometric", "--config.x", "-1"]
    options, overrides = parser().parse_with_overrides(arguments)
    assert options.max_samples == 1 and overrides == arguments[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard=2/2"], "error: --shard must be i/n with 0 <= i < n, such as 0/8, not '2/2'\n"),
        (["--shrad=0/2"], "error: unknown option --shrad=0/2; did you mean --shard?\n"),
        (["--data.root=x"], "error: unknown option --data.root=x; did you mean --config.data.root?\n"),
        (["--zzz=1"], "error: unknown option --zzz=1; --help lists them\n"),
    ],
)
def test_misuse_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_with_overrides(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err == message


def test_status(capsys):
    def refuse(kind):
        raise kind("no such thing")

    assert status(lambda: 7) == 7
    assert status(lambda: refuse(UserError)) == 2 and capsys.readouterr().err == "error: no such thing\n"
    assert status(lambda: refuse(KeyboardInterrupt)) == 130
    with pytest.raises(ValueError):
        status(lambda: refuse(ValueError))
    assert status(lambda: refuse(MemoryError)) == 2 and "error: this machine has no memory" in capsys.readouterr().err


_TALKS = """
import sys
from occjax.system.command_line import Parser, say, status
Parser("tool", "200 \\u00d7 200").parse_args(sys.argv[1:])
def run():
    for i in range(20_000):
        say(f"{i} \\u00d7 1")
    sys.stderr.write("done")
    return 3
sys.exit(status(run))
"""


def talk(shell: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs 20,000 lines of output through a shell's command line, in which $TALK is the program."""
    environment = os.environ | {"TALK": f"{sys.executable} -c '{_TALKS}'"} | environment
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"], env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize("closing", ['eval "$TALK" | head -n 1', 'eval "$TALK" >&-'])
def test_work_goes_on_when_nobody_reads_its_output(closing):
    done = talk(closing)
    assert (done.returncode, done.stderr) == (3, b"done")


def test_a_terminal_that_knows_ascii_alone_gets_other_characters_replaced():
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = talk('eval "$TALK"', **ascii_only)
    assert done.returncode == 3 and done.stdout.splitlines()[-1] == b"19999 ? 1"
    assert b"200 ? 200" in talk('eval "$TALK --help"', **ascii_only).stdout


def test_output_that_cannot_be_written_is_one_line():
    done = talk('eval "$TALK" > /dev/full')
    assert done.returncode == 2 and done.stderr.startswith(b"error: cannot write: No space left on device")
    assert done.stderr.count(b"\n") == 1


_INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from occjax.system.command_line import status
from occjax.storage import writing
def run():
    with writing(Path(sys.argv[1]) / "file") as scratch:
        scratch.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
sys.exit(status(run))
"""


def test_a_signal_to_end_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-c", _INTERRUPTED, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
