"""The command line: train, evaluate, draw, teach, look after the data, measure; and the three converters.

occjax --config=configs/kd.py --workdir=runs/kd
occjax --mode=eval --workdir=runs/kd
occjax --mode=visualize --workdir=runs/kd --scene=scene-0103 --movie=mp4
occjax --mode=view --workdir=runs/kd --output=scene.html
occjax --mode=predict --workdir=runs/kd --calibration=rig.yaml --images=CAM_FRONT=front.jpg --output=out
occjax --mode=dump --workdir=runs/kd --output=data/kd_teacher --also=bev_sem,bev_vis --also-dir=out/dump
occjax --mode=doctor --config=configs/kd.py
occjax convert-teacher | convert-weights | pack --help

From a checkout, `python main.py` is the same, and so are the files of converters/.
"""

import argparse
import importlib
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import occjax
from occjax.system.command_line import Parser, band, say, show_log, status, words
from occjax.system.stop_requests import leave

_log = logging.getLogger("occjax.main")
# Modules by name, each imported when it is called: `--help` need not wait for jax.
_COMMANDS = {
    "convert-teacher": "occjax.run.convert_teacher",
    "convert-weights": "occjax.run.convert_weights",
    "pack": "occjax.run.pack",
}
_MODES = {
    "train": "train (or resume) in --workdir, then evaluate",
    "eval": "evaluate the newest checkpoint of --workdir, or with --teacher the teacher files",
    "visualize": "draw the --tokens or the --scene as the newest checkpoint sees them",
    "view": "write a page that shows the --tokens or the --scene in three dimensions, to be opened in a browser",
    "predict": "predict images of your own, taken with the cameras of --calibration",
    "export": "write the newest checkpoint into --output, for others to use, in each --format",
    "dump": "write the newest checkpoint's predictions into --output, as teacher files to learn from",
    "config": "print the configuration with every field's meaning, and what differs from the defaults",
    "doctor": "say what data is there, what is missing, and the command that mends it",
    "benchmark": "measure loader, step and memory on this machine",
}
_DEVICE_REMEDY = (
    "lower --config.data.batch_size (in evaluation, drawing and dumps --config.eval.batch_size), or set "
    "--config.model.remat_backbone=True or --config.model.compute_dtype=bfloat16; --mode=benchmark measures what fits"
)
_OF_A_RUN = ("eval", "visualize", "view", "predict", "export", "dump")
# Of the run in a --workdir that is named, else of the default configuration.
_OF_A_NAMED_RUN = ("config", "doctor")
_SWITCH = {"action": argparse.BooleanOptionalAction}
# Options that only some modes read: the modes, the help, and what argparse must know besides.
_OPTIONS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "distributed": (("train", "eval"), "join a run over several hosts (jax.distributed.initialize)", _SWITCH),
    "allow_other_data": (("train",), "go on with other samples than the run began with", _SWITCH),
    "best": (_OF_A_RUN, "the checkpoint with the best validation mIoU", _SWITCH),
    "teacher": (("eval",), "score the teacher files of config.data.teacher_dir; no checkpoint", _SWITCH),
    "save_predictions": (("eval",), "keep the predicted classes, a file per sample", _SWITCH),
    "fit_temperature": (("eval",), "fit one to the split's labels and keep it: predictions are calibrated", _SWITCH),
    "tokens": (("visualize", "view"), "tokens of the samples to draw, with commas between", {"type": words}),
    "scene": (("visualize", "view"), "name of a scene to draw whole; view shows one of validation without it", {}),
    "frames": (("view", "predict"), "how many the page shows at most, 12 by default", {"type": int, "metavar": "N"}),
    "list_scenes": (("visualize",), "list the scenes that can be drawn, with their splits; no checkpoint", _SWITCH),
    "movie": (("visualize",), "a film of the scene, not a picture per sample", {"choices": ("mp4", "gif")}),
    "calibration": (("predict", "export"), "YAML of the cameras: intrinsics, distortion, poses", {"metavar": "FILE"}),
    "images": (("predict",), "CAMERA=FILE,CAMERA=FILE, or a folder <camera>/<time>.jpg", {"metavar": "IMAGES"}),
    "robot_height": (
        ("predict",),
        "LOW,HIGH: ends of a robot, z of the grid's frame in metres; writes its cost map",
        {"type": band},
    ),
    "robot_radius": (("predict",), "of the robot, seen from above, metres", {"type": float, "metavar": "M"}),
    "inflation_radius": (("predict",), "how far costs reach around obstacles", {"type": float, "metavar": "M"}),
    "ros_bag": (("predict",), "folder of a ROS 2 bag with points and, of a robot, cost maps", {"metavar": "DIR"}),
    "format": (("export",), "some of onnx, int8, stablehlo, safetensors, pytorch; commas between", {"type": words}),
    "outputs": (("export",), "of onnx and stablehlo, some of classes, probabilities, bev", {"type": words}),
    "verify": (("export",), "run onnx and stablehlo, and refuse what does not agree; the default", _SWITCH),
    "force": (("export",), "write int8 though it loses more than half a point of mIoU", _SWITCH),
    "output": (("view", "predict", "export", "dump"), "folder for what is written; of view, the .html file", {}),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line says; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Before the modes' own parser, which would take the word for a configuration.
    if arguments and arguments[0] in _COMMANDS:
        return importlib.import_module(_COMMANDS[arguments[0]]).main(arguments[1:])
    # Orbax and others tell a great deal at INFO; the run's own story is what belongs on the screen.
    show_log()
    return leave(status(lambda: _run(arguments), device_remedy=_DEVICE_REMEDY))


def _run(arguments: list[str]) -> int:
    # Here, and so in the functions below: a loader process imports this file and wants none of it.
    from occjax.config_checks import require_sound
    from occjax.run.overrides import DEFAULT_CONFIG, apply_overrides, load_config_file
    from occjax.run_config import load_config
    from occjax.system.cpu import keep_freed_memory

    parser = _parser(DEFAULT_CONFIG)
    options, overrides = parser.parse_with_overrides(arguments)
    problem = _misuse(options)
    if problem:
        parser.error(problem)
    # Where jax has no plugin for an accelerator, steps run in the host's memory.
    if not entry_points(group="jax_plugins"):
        keep_freed_memory()
    named = options.config or DEFAULT_CONFIG
    workdir = Path(options.workdir or f"runs/{Path(named.split(':')[0]).stem}")
    # A run is looked at as it was trained, unless somebody says otherwise.
    is_own = options.config is None and (
        options.mode in _OF_A_RUN or (options.mode in _OF_A_NAMED_RUN and options.workdir)
    )
    config = apply_overrides(load_config(workdir) if is_own else load_config_file(named), overrides)
    if options.mode == "doctor":
        from occjax.run.doctor import report

        text, is_complete = report(config)
        say(text)
        return 0 if is_complete else 1

    if options.mode == "config":
        from occjax.run.show_config import described

        # Before it is checked: what is wrong is seen best beside the rest.
        say(described(config))
    # Not for the doctor, who lists such problems with all others.
    require_sound(config)
    if options.mode == "config":
        return 0
    from occjax.system.compiled_programs import keep_compiled_programs
    from occjax.system.mesh import devices_in_words
    from occjax.system.processes import is_first, join_processes

    # How long compiling takes is a figure of the benchmark.
    if options.mode != "benchmark":
        keep_compiled_programs()
    # Before anything asks jax for its devices.
    if options.distributed:
        join_processes()
        if not is_first():
            show_log(logging.WARNING)
    _log.info("computing on %s", devices_in_words())
    functions = (_train, _eval, _visualize, _view, _predict, _export, _dump, _benchmark)
    modes = {function.__name__[1:]: function for function in functions}
    outcome = modes[options.mode](config, workdir, options)
    if is_first():
        say(outcome)
    return 0


def _train(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.run.prepare import prepare
    from occjax.run.train import train

    prepare(config)
    evaluation = train(config, workdir, allow_other_data=bool(options.allow_other_data))
    return evaluation.summary(workdir) if evaluation else f"run: {workdir}"


def _eval(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.data.index import load_index
    from occjax.run.evaluate import evaluate_teacher, evaluate_workdir
    from occjax.run.evaluations import evaluation_dir
    from occjax.run.prepare import prepare
    from occjax.run.scoring import Outputs

    outputs = Outputs(config.eval.pictures, save_predictions=bool(options.save_predictions), rayiou=True)
    if not options.teacher:
        fit, best = bool(options.fit_temperature), bool(options.best)
        return evaluate_workdir(config, workdir, outputs=outputs, best=best, fit_temperature=fit).summary(workdir)
    prepare(config)
    index = load_index(config.data, fallback_dir=workdir)
    split = config.data.val_split
    output_dir = evaluation_dir(config, workdir, index.split(split))
    return evaluate_teacher(config, index, split=split, output_dir=output_dir, outputs=outputs).summary(workdir)


def _visualize(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.run.visualize import list_scenes, visualize_workdir

    if options.list_scenes:
        return list_scenes(config, workdir)
    paths = visualize_workdir(
        config,
        workdir,
        tokens=options.tokens or [],
        scene=options.scene or "",
        movie_format=options.movie or "",
        best=bool(options.best),
    )
    return "\n".join(f"wrote {path}" for path in paths)


def _view(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.run.view import view_by_options

    return f"wrote {view_by_options(config, workdir, options)}"


def _predict(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.run.predict import predict_by_options

    return "\n".join(f"wrote {path}" for path in predict_by_options(config, workdir, options))


def _export(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.run.export import export_workdir

    paths = export_workdir(
        config,
        workdir,
        Path(options.output),
        formats=tuple(options.format),
        best=bool(options.best),
        calibration=Path(options.calibration) if options.calibration else None,
        outputs=tuple(options.outputs or ()),
        verify=options.verify is not False,
        force=bool(options.force),
    )
    return "\n".join(f"wrote {path}" for path in paths)


def _dump(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.convert.dump.option_fields import from_options
    from occjax.convert.dump.surface import SurfaceOptions
    from occjax.run.dump import dump_workdir

    surface = from_options(SurfaceOptions, options)
    return dump_workdir(config, workdir, Path(options.output), best=bool(options.best), surface=surface).summary()


def _benchmark(config, workdir: Path, options: argparse.Namespace) -> str:
    from occjax.benchmark.report import benchmark
    from occjax.run.prepare import prepare

    prepare(config)
    return benchmark(config)


def _misuse(options: argparse.Namespace) -> str:
    """What is wrong about an option that the chosen mode does not read, or one that it lacks; empty if nothing is."""
    from occjax.convert.dump.option_fields import option_names
    from occjax.convert.dump.surface import SurfaceOptions

    mode = options.mode
    belongs = {name: modes for name, (modes, _, _) in _OPTIONS.items()}
    for name, modes in (belongs | dict.fromkeys(option_names(SurfaceOptions), ("dump",))).items():
        if getattr(options, name) is not None and mode not in modes:
            option = name.replace("_", "-")
            return f"--{option} means nothing in --mode={mode}; it belongs to --mode={' or '.join(modes)}"
    if options.teacher and (options.best or options.distributed or options.fit_temperature):
        return "--teacher reads files in one process: leave --best, --distributed and --fit-temperature out"
    if mode == "visualize" and bool(options.tokens) + bool(options.scene) + bool(options.list_scenes) != 1:
        return "--mode=visualize wants either --tokens=TOKEN,TOKEN or --scene=NAME; --list-scenes names them"
    if options.movie and not options.scene:
        return "--movie films a scene: name it with --scene=NAME"
    wanted = {"predict": ("calibration", "images", "output"), "export": ("format", "output")}.get(mode, ())
    absent = [f"--{name}" for name in wanted if not getattr(options, name)]
    if absent:
        return f"--mode={mode} wants {' and '.join(absent)}"
    if mode == "dump" and not options.output:
        return "--mode=dump wants a folder for the teacher files: --output=DIR"
    return ""


def _parser(default_config: str) -> Parser:
    from occjax.convert.dump.option_fields import add_options
    from occjax.convert.dump.surface import SurfaceOptions

    parser = Parser("occjax", __doc__)
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help=f"configuration file, by default {default_config}; override any field with --config.section.field=value. "
        "eval, visualize, view, predict, export and dump take the workdir's own configuration unless this is given, "
        "config and doctor that of a --workdir which is named",
    )
    add("--version", action="version", version=f"occjax {occjax.__version__}")
    add("--workdir", metavar="DIR", help="folder of the run; by default runs/<name of the configuration file>")
    modes = "; ".join(f"{name}: {what}" for name, what in _MODES.items())
    add("--mode", choices=list(_MODES), default="train", help=modes)
    for name, (of_modes, text, extra) in _OPTIONS.items():
        add(f"--{name.replace('_', '-')}", help=f"{', '.join(of_modes)}: {text}", **extra)
    surface = parser.add_argument_group("dump: what GaussianFormer's dump script would write, besides")
    add_options(surface, SurfaceOptions, unset=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
