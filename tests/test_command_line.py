"""Options may be spelt in every way that users of one of the tools know; misuse is one line."""

import argparse

import pytest

from occjax.command_line import Parser, shard, status, whole_numbers, words
from occjax.errors import UserError


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
        (["--shrad=0/2"], "error: unknown option --shrad=0/2; --help lists them\n"),
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
    assert status(lambda: refuse(UserError), refused=1) == 1
    assert status(lambda: refuse(KeyboardInterrupt)) == 130
    with pytest.raises(ValueError):
        status(lambda: refuse(ValueError))
