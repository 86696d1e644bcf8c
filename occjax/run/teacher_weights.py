"""A published teacher's checkpoint, run over nuScenes as the command line says (`occjax convert-teacher --weights`)."""

import argparse
import hashlib
from pathlib import Path

import jax
import numpy as np

from occjax.config import DataConfig
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.output import Conversion
from occjax.convert.torch_weights import read_state_dict
from occjax.convert.torch_zip import TensorRef
from occjax.convert.weights.network import NetworkPredictor
from occjax.convert.weights.teach import TeacherSource, teach
from occjax.grid import SURROUNDOCC_GRID
from occjax.system.command_line import say
from occjax.system.mesh import make_mesh
from occjax.teacher.teacher import Teacher, load_teacher
from occjax.teacher.variants import DuplicateRule

ARGMAX = "argmax"


def teach_from_weights(
    arguments: argparse.Namespace, output: Path, data: DataConfig, options: DumpOptions
) -> Conversion:
    """Teacher files and dump surface of a checkpoint.

    Raises:
      UserError: the checkpoint is damaged, or none of a published teacher; and as `teach`.
    """
    _require_readable(options)
    # What these mean by default, said here: the parser has to know whether they were given.
    draws, dtype = arguments.draws or "1", arguments.backbone_dtype or "float32"
    dup_mode = arguments.dup_mode or "cpu_first"
    teacher, sha256 = _load(Path(arguments.weights), arguments.model, draws, dtype, dup_mode)
    variant = teacher.variant
    if variant.value_kind == "logits" and options.dump_3d_type == "prob":
        raise DumpError(f"{variant.name} predicts logits, so files of its scores cannot be called prob")
    if variant.lifted_anchors == 0 and arguments.draws:
        raise DumpError(f"{variant.name} draws no random numbers: leave --draws out")
    how = {"model": variant.name, "sha256": sha256, "draws": draws, "backbone_dtype": dtype}
    # Only where it is not what everybody has: folders of before the option go on.
    how |= {"dup_mode": dup_mode} if dup_mode != "cpu_first" else {}
    made = TeacherSource(
        ", ".join(["weights", *(f"{name} {value}" for name, value in how.items())]),
        {"weights": {"file": str(arguments.weights), **how}},
    )
    predictor = NetworkPredictor(teacher, make_mesh(jax.local_devices()), draws=1 if draws == ARGMAX else int(draws))
    say(
        f"{variant.name} of {arguments.weights}, sha256 {sha256[:12]}, on {predictor.at_once} × {jax.default_backend()}"
    )
    return teach(
        predictor,
        made,
        output,
        data_config=data,
        options=options,
        shard=arguments.shard or (0, 1),
        audit=arguments.audit,
        metric=arguments.metric is not False,
        workers=max(1, arguments.workers),
        progress=say,
        print_every_s=arguments.print_freq_s,
    )


def _require_readable(options: DumpOptions) -> None:
    """Raises DumpError where options that describe a dump say other than what the teacher predicts."""
    if options.grid != SURROUNDOCC_GRID:
        raise DumpError("a teacher's weights predict on SurroundOcc's grid: leave --source-grid out; --grid resamples")
    if options.free_id != options.num_classes - 1:
        raise DumpError(f"a teacher's weights predict free as class {options.num_classes - 1}: leave --free-id out")
    if options.infos:
        raise DumpError("--infos says which samples a dump holds; with --weights the tables say it: leave it out")


def _load(
    path: Path, model: str | None, draws: str, backbone_dtype: str, dup_mode: DuplicateRule
) -> tuple[Teacher, str]:
    """The teacher, and the sha256 of its file."""
    state_dict = read_state_dict(path, None)
    arrays = {name: v.array() if isinstance(v, TensorRef) else np.asarray(v) for name, v in state_dict.items()}
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DumpError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
    mode = "argmax" if draws == ARGMAX else "drawn"
    return load_teacher(arrays, model, depth_mode=mode, backbone_dtype=backbone_dtype, dup_mode=dup_mode), sha256
