"""Export of a run for others to use: ONNX and StableHLO of a rig, a model folder, PyTorch weights (`--mode=export`)."""

import logging
from pathlib import Path

import cv2
import jax
import numpy as np
from safetensors.numpy import save

from occjax.config import Config
from occjax.convert.torch_weights import state_dict_of
from occjax.data.index import load_index
from occjax.errors import UserError
from occjax.predict.calibration import read_calibration
from occjax.predict.export import make_export, require_packages
from occjax.predict.export_folder import write_export
from occjax.predict.fixed_network import OUTPUTS
from occjax.predict.images import NetworkInput, prepare
from occjax.predict.model_folder import write_model_folder
from occjax.predict.nuscenes_frame import nuscenes_frame
from occjax.predict.rig import Rig
from occjax.predict.stored_weights import restore
from occjax.run.evaluations import full_evaluations
from occjax.run.quantized_export import with_int8
from occjax.run_config import stored_initialisation
from occjax.storage import writing
from occjax.system.mesh import make_mesh

_log = logging.getLogger(__name__)
FORMATS = ("onnx", "int8", "stablehlo", "safetensors", "pytorch")


def export_workdir(
    config: Config,
    workdir: Path,
    output: Path,
    *,
    formats: tuple[str, ...],
    best: bool = False,
    calibration: Path | None = None,
    outputs: tuple[str, ...] = (),
    verify: bool = True,
    force: bool = False,
) -> list[Path]:
    """Writes the student of a run into `output`, in each of `formats`.

    "safetensors" is a folder that `occjax.load` reads, with the scores of the newest evaluation of these weights;
    "pytorch" the state dict of the PyTorch original, `pytorch_model.safetensors`, for runs of its architecture.

    "onnx" and "stablehlo" hold one rig: that of `calibration`, else that of the first sample of the validation split.
    "int8" is "onnx" in 8 bits; see `occjax.run.quantized_export`. Nothing is written before everything is made.

    Args:
      config: of the run.
      workdir: the run.
      output: folder for what is written.
      formats: some of `FORMATS`.
      best: the checkpoint with the best validation mIoU.
      calibration: YAML of the rig.
      outputs: what a network of one rig gives, some of `occjax.predict.fixed_network.OUTPUTS`; none named = all.
      verify: such a network is run, and refused where it does not agree with the student.
      force: take "int8" however much it loses.

    Returns:
      the files that were written.

    Raises:
      UserError: no checkpoint, a format that is not known or does not fit, or nothing can be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(f"--format is some of {', '.join(FORMATS)}, with commas between; not {','.join(unknown)}")
    outputs = outputs or OUTPUTS
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown:
        raise UserError(f"--outputs is some of {', '.join(OUTPUTS)}, with commas between; not {','.join(unknown)}")
    if len(set(formats)) < len(formats) or len(set(outputs)) < len(outputs):
        raise UserError("--format and --outputs name everything once")
    if calibration is not None and not {"onnx", "stablehlo"} & set(formats):
        raise UserError(f"--calibration is of onnx and stablehlo, which hold a rig; {', '.join(formats)} takes any")
    if (output / "checkpoints").is_dir() or (output / "best").is_dir():
        raise UserError(f"{output} is the folder of a run, which an export would write over; choose another --output")
    if "int8" in formats and "onnx" not in formats:
        raise UserError("int8 is made of onnx: --format=onnx,int8")
    require_packages(formats)
    of_a_rig = tuple(name for name in formats if name in ("onnx", "stablehlo"))
    weights = restore(config, workdir, make_mesh(jax.local_devices()[:1]), best=best)
    state_dict = state_dict_of(config, weights.params, weights.batch_stats) if "pytorch" in formats else None
    networks = None
    if of_a_rig:
        rig, frame = _reference_frame(config, calibration)
        networks = make_export(config, weights, rig, *frame, formats=of_a_rig, outputs=outputs, verify=verify)
        if "int8" in formats:
            networks = with_int8(networks, config, force=force)
    written = []
    try:
        if state_dict is not None:
            path = output / "pytorch_model.safetensors"
            with writing(path) as scratch:
                scratch.write_bytes(save(state_dict, metadata={"format": "pt"}))
            written.append(path)
        if networks is not None:
            written += write_export(output, networks, config)
        if "safetensors" in formats:
            scores = [
                evaluation.results
                for evaluation in full_evaluations(workdir)
                if evaluation.step == weights.step and evaluation.setting.weights == config.eval.weights
            ]
            written += write_model_folder(
                output,
                config,
                weights,
                initialisation=stored_initialisation(workdir),
                metrics=scores[-1] if scores else None,
            )
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}; choose another --output") from error
    return written


def _reference_frame(config: Config, calibration: Path | None) -> tuple[Rig, NetworkInput]:
    """The rig that is exported, and a frame of it to compare with: a sample's, or noise where there is none."""
    size = (config.data.image_width, config.data.image_height)
    if calibration is None:
        split = load_index(config.data).split(config.data.val_split)
        files, rig = nuscenes_frame(
            config.data.root,
            split.tokens[0],
            version=config.data.version,
            frame=config.grid.frame,
            cameras=config.data.cameras,
        )
        # It moved between its cameras' exposures, and never again so.
        _log.info(
            "the export is of the rig of sample %s, its motion included; --calibration=FILE exports a vehicle's own",
            split.tokens[0],
        )
        return rig, prepare(files, rig, size)
    rig = read_calibration(calibration).in_frame(config.grid.frame)
    rng = np.random.default_rng(0)
    assert rig.sizes is not None
    images = [
        cv2.resize(rng.integers(0, 256, (18, 32, 3)).astype(np.uint8), size.tolist(), interpolation=cv2.INTER_CUBIC)
        for size in rig.sizes
    ]
    return rig, prepare(images, rig, size)
