"""Command line: train, evaluate, draw, teach, look after the data, measure.

python main.py --config=configs/kd.py --workdir=runs/kd
python main.py --mode=eval --workdir=runs/kd
python main.py --mode=visualize --workdir=runs/kd --scene=scene-0103 --movie=mp4
python main.py --mode=dump --workdir=runs/kd --output=data/kd_teacher
python main.py --mode=doctor --config=configs/kd.py
"""

import logging
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

# Here, not in main(): loader processes import this file again and would each repeat grain's remarks on profiling.
absl_logging.set_verbosity(absl_logging.ERROR)
# XLA's alarm that compiling is slow on a CPU asks for a bug report that nobody needs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# numpy's matrix products are small here: threads would spend more time on waiting for each other, in every loader
# process anew.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A loader that is stopped while it hands over a batch leaves it to Python's resource tracker, which frees it, and would
# report it as leaked.
os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")

_DEFAULT_CONFIG = "configs/kd.py"
_MODES = {
    "train": "train (or resume) in --workdir, then evaluate",
    "eval": "evaluate the newest checkpoint of --workdir, or with --teacher the teacher files",
    "visualize": "draw the --tokens or the --scene as the newest checkpoint sees them",
    "dump": "write the newest checkpoint's predictions into --output, as teacher files to learn from",
    "doctor": "say what data is there, what is missing, and the command that mends it",
    "benchmark": "measure loader, step and memory on this machine",
}

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string=f"Configuration file, by default {_DEFAULT_CONFIG}; override any field with "
    "--config.section.field=value. eval, visualize and dump take the workdir's own configuration unless this is given.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "Folder of the run; default runs/<name of the configuration file>, so runs/kd where --config is not given.",
)
_MODE = flags.DEFINE_enum("mode", "train", list(_MODES), "; ".join(f"{k}: {v}" for k, v in _MODES.items()))
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "train, eval: join a run over several hosts (jax.distributed.initialize)."
)
_BEST = flags.DEFINE_bool(
    "best", False, "eval, visualize, dump: the checkpoint with the best validation mIoU, not the newest."
)
_TEACHER = flags.DEFINE_bool(
    "teacher", False, "eval: score the teacher files of config.data.teacher_dir; needs no checkpoint."
)
_SAVE_PREDICTIONS = flags.DEFINE_bool(
    "save_predictions", False, "eval: keep the predicted classes, a file per sample, beside metrics.json."
)
_TOKENS = flags.DEFINE_list("tokens", [], "visualize: tokens of the samples to draw, with commas between.")
_SCENE = flags.DEFINE_string("scene", "", "visualize: name of a scene to draw whole.")
_MOVIE = flags.DEFINE_enum("movie", None, ["mp4", "gif"], "visualize: a film of the scene, not a picture per sample.")
_OUTPUT = flags.DEFINE_string("output", "", "dump: folder for the teacher files.")
_MODES_OF_FLAG = {
    "distributed": ("train", "eval"),
    "best": ("eval", "visualize", "dump"),
    "teacher": ("eval",),
    "save_predictions": ("eval",),
    "tokens": ("visualize",),
    "scene": ("visualize",),
    "movie": ("visualize",),
    "output": ("dump",),
}


def main(_) -> None:
    # Orbax and others tell a great deal at INFO; the run's own story is what belongs on the screen.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("occjax").setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.ERROR)  # again: parsing the flags has set it
    from occjax.cpu import keep_freed_memory
    from occjax.errors import UserError

    # Where jax has no plugin for an accelerator, steps run in the host's memory.
    if not entry_points(group="jax_plugins"):
        keep_freed_memory()
    try:
        sys.exit(_run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # what was going on has said what it saved
        sys.exit(130)


def _run() -> int:
    _check_flags()
    workdir = Path(_WORKDIR.value or f"runs/{_config_stem()}")
    if _MODE.value == "doctor":
        from occjax.run.doctor import report

        text, is_complete = report(_CONFIG.value)
        print(text)
        return 0 if is_complete else 1

    if _DISTRIBUTED.value:
        import jax

        jax.distributed.initialize()
    of_workdir = _MODE.value in ("eval", "visualize", "dump")
    config = _checked(_workdir_config(workdir) if of_workdir else _CONFIG.value)
    modes = {"train": _train, "eval": _eval, "visualize": _visualize, "dump": _dump, "benchmark": _benchmark}
    print(modes[_MODE.value](config, workdir))
    return 0


def _train(config, workdir: Path) -> str:
    from occjax.run.prepare import prepare
    from occjax.run.train import train

    prepare(config)
    evaluation = train(config, workdir)
    return evaluation.summary(workdir) if evaluation else f"run: {workdir}"


def _eval(config, workdir: Path) -> str:
    from occjax.run.scoring import Options

    options = Options(config.eval.pictures, save_predictions=_SAVE_PREDICTIONS.value, rayiou=True)
    if not _TEACHER.value:
        from occjax.run.evaluate import evaluate_workdir

        return evaluate_workdir(config, workdir, options=options, best=_BEST.value).summary(workdir)

    from occjax.data.index import load_index
    from occjax.run.evaluate_teacher import evaluate_teacher
    from occjax.run.prepare import prepare

    prepare(config)
    index = load_index(config.data, fallback_dir=workdir)
    output_dir = workdir / "eval" / "teacher"
    split = config.data.val_split
    return evaluate_teacher(config, index, split=split, output_dir=output_dir, options=options).summary(workdir)


def _visualize(config, workdir: Path) -> str:
    from occjax.run.visualize import visualize_workdir

    paths = visualize_workdir(
        config, workdir, tokens=_TOKENS.value, scene=_SCENE.value, movie_format=_MOVIE.value or "", best=_BEST.value
    )
    return "\n".join(f"wrote {path}" for path in paths)


def _dump(config, workdir: Path) -> str:
    from occjax.run.dump import dump_workdir

    return dump_workdir(config, workdir, Path(_OUTPUT.value), best=_BEST.value).summary()


def _benchmark(config, workdir: Path) -> str:
    from occjax.benchmark.report import benchmark
    from occjax.run.prepare import prepare

    prepare(config)
    return benchmark(config)


def _check_flags() -> None:
    """Raises UserError for a flag that the chosen mode does not read, or one that it lacks."""
    from occjax.errors import UserError

    mode = _MODE.value
    for name, modes in _MODES_OF_FLAG.items():
        if flags.FLAGS[name].present and mode not in modes:
            raise UserError(f"--{name} means nothing in --mode={mode}; it belongs to --mode={' or '.join(modes)}")
    if _TEACHER.value and (_BEST.value or _DISTRIBUTED.value):
        raise UserError("--teacher reads files in one process: leave --best and --distributed out")
    if mode == "visualize" and bool(_TOKENS.value) == bool(_SCENE.value):
        raise UserError("--mode=visualize wants either --tokens=TOKEN,TOKEN or --scene=NAME")
    if _MOVIE.value and not _SCENE.value:
        raise UserError("--movie films a scene: name it with --scene=NAME")
    if mode == "dump" and not _OUTPUT.value:
        raise UserError("--mode=dump wants a folder for the teacher files: --output=DIR")


def _config_stem() -> str:
    return Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]).stem


def _workdir_config(workdir: Path):
    """The configuration on the command line, or else the run's own with the overrides of the command line."""
    from occjax.run.overrides import apply_overrides
    from occjax.run.workdir import load_config

    if _names_config(sys.argv):
        return _CONFIG.value
    config = load_config(workdir)
    apply_overrides(config, config_flags.get_override_values(flags.FLAGS["config"]))
    return config


def _names_config(arguments: list[str]) -> bool:
    return any(a == "--config" or a.startswith("--config=") for a in arguments)


def _checked(config):
    from occjax.config_checks import problems
    from occjax.errors import UserError

    found = problems(config)
    if found:
        raise UserError("the configuration does not hold together:\n" + "\n".join(f"  {p}" for p in found))
    return config


def _parse_flags(arguments: list[str]) -> list[str]:
    """absl's parser, after a look at what it would answer with a stack trace."""
    from occjax.errors import UserError
    from occjax.run.overrides import check_config_flag

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
