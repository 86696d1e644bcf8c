"""Command line: train, evaluate, look after the data, measure.

python main.py --config=configs/kd.py --workdir=runs/kd
python main.py --mode=eval --workdir=runs/kd
python main.py --mode=doctor --config=configs/kd.py
"""

import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

# Here, not in main(): loader processes import this file again and would each repeat grain's remarks on profiling.
absl_logging.set_verbosity(absl_logging.ERROR)

_DEFAULT_CONFIG = "configs/kd.py"
_MODES = {
    "train": "train (or resume) in --workdir, then evaluate",
    "eval": "evaluate the newest checkpoint of --workdir; --best takes the best one",
    "doctor": "say what data is there, what is missing, and the command that mends it",
    "benchmark": "measure loader, step and memory on this machine",
}

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string=f"Configuration file, by default {_DEFAULT_CONFIG}; override any field with "
    "--config.section.field=value. eval takes the workdir's own configuration unless this is given.",
)
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; default runs/<name of the configuration file>.")
_MODE = flags.DEFINE_enum("mode", "train", list(_MODES), "; ".join(f"{k}: {v}" for k, v in _MODES.items()))
_BEST = flags.DEFINE_bool("best", False, "eval: the checkpoint with the best validation mIoU, not the newest.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join a run over several hosts (jax.distributed.initialize).")


def main(_) -> None:
    # Orbax and others tell a great deal at INFO; the run's own story is what belongs on the screen.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("occjax").setLevel(logging.INFO)
    from occjax.errors import UserError

    try:
        sys.exit(_run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _run() -> int:
    workdir = Path(_WORKDIR.value or f"runs/{_config_stem()}")
    if _MODE.value == "doctor":
        from occjax.doctor import report

        text, is_complete = report(_CONFIG.value)
        print(text)
        return 0 if is_complete else 1

    if _DISTRIBUTED.value:
        import jax

        jax.distributed.initialize()
    if _MODE.value == "train":
        config = _checked(_CONFIG.value)
        from occjax.data.prepare import prepare
        from occjax.train.loop import train

        prepare(config)
        evaluation = train(config, workdir)
        if evaluation is not None:
            print(evaluation.summary(workdir))
    elif _MODE.value == "eval":
        config = _checked(_eval_config(workdir))
        from occjax.evaluate import evaluate_workdir

        print(evaluate_workdir(config, workdir, best=_BEST.value).summary(workdir))
    elif _MODE.value == "benchmark":
        config = _checked(_CONFIG.value)
        from occjax.benchmark import benchmark
        from occjax.data.prepare import prepare

        prepare(config)
        print(benchmark(config))
    return 0


def _config_stem() -> str:
    return Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem


def _eval_config(workdir: Path):
    """The configuration on the command line, or else the run's own with the overrides of the command line."""
    from occjax.overrides import apply_overrides
    from occjax.workdir import load_config

    if _names_config(sys.argv):
        return _CONFIG.value
    config = load_config(workdir)
    apply_overrides(config, config_flags.get_override_values(flags.FLAGS["config"]))
    return config


def _names_config(arguments: list[str]) -> bool:
    return any(a == "--config" or a.startswith("--config=") for a in arguments)


def _checked(config):
    from occjax.errors import UserError

    problems = config.problems()
    if problems:
        raise UserError("the configuration does not hold together:\n" + "\n".join(f"  {p}" for p in problems))
    return config


def _parse_flags(arguments: list[str]) -> list[str]:
    """absl's parser, after a look at what it would answer with a stack trace."""
    from occjax.errors import UserError
    from occjax.overrides import check_config_flag

    if not _names_config(arguments):
        # First, because overrides apply to the configuration named before them.
        arguments = [arguments[0], f"--config={_DEFAULT_CONFIG}", *arguments[1:]]
    try:
        check_config_flag(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    rest = app.parse_flags_with_usage(arguments)
    if len(rest) > 1:
        print(f"error: unexpected arguments {' '.join(rest[1:])}; every option starts with --", file=sys.stderr)
        sys.exit(2)
    return rest


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
