"""INT8 beside an exported ONNX model: calibrated on training samples, scored against it on the validation split."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8

from occjax.benchmark.timing import machine
from occjax.config import Config
from occjax.data.index import Index, SplitIndex, load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.data.samples import SampleReader
from occjax.data.sources import open_source
from occjax.label_sets import label_set
from occjax.metrics.protocols import VoxelMiou
from occjax.metrics.scores import Scores
from occjax.predict.export_folder import MODELS, ExportError, NetworkExport
from occjax.predict.latency import latencies
from occjax.predict.onnx_runtime import onnx_session
from occjax.predict.quantize import quantized
from occjax.run.evaluate import has_labels
from occjax.system.progress import Progress

_log = logging.getLogger(__name__)
# Enough for ranges, which a few streets fill.
_CALIBRATION_SAMPLES = 32
# Points of mIoU. Of the classes present too: a mean over those that are not there as well hides what is lost.
_MOST_LOST = 0.5
# Frames of each, for its latency.
_TIMED = 50
_MEANS = {"miou": "mIoU", "miou_present": "mIoU, classes present"}


def with_int8(export: NetworkExport, config: Config, *, force: bool) -> NetworkExport:
    """The export with its ONNX model in INT8 as well, and with both scores and latencies in the manifest.

    Args:
      export: holds ONNX, with classes among its outputs.
      config: of the run; `data.train_split` calibrates, `data.val_split` scores (`eval.max_samples` of it).
      force: take it however much it loses.

    Raises:
      ExportError: the split has no labels or other cameras than the rig, or more than half a point of mIoU is lost.
    """
    _require_outputs(export, config)
    index = load_index(config.data)
    train, val = (index.split(name) for name in (config.data.train_split, config.data.val_split))
    if not has_labels(config, val, required=False):
        raise ExportError(
            f"INT8 is scored by labels, which split {val.name} lacks: set data.labels_dir, or leave int8 out"
        )
    name = MODELS["int8"]
    if not force:
        _require_rig_of(export, config, val)
    model, facts = quantized(export.models[MODELS["onnx"]], _calibration_frames(config, train))
    sessions = {
        file: onnx_session(data) for file, data in {**export.models, name: model}.items() if file.endswith("onnx")
    }
    runs = {file: lambda images, s=session: s.run(None, {"images": images}) for file, session in sessions.items()}
    place = export.manifest["outputs"].index("classes")
    scores = _scores(config, index, {file: lambda images, r=run: r(images)[place] for file, run in runs.items()})
    images = export.reference["images"]
    latency = latencies({file: lambda r=run: r(images) for file, run in runs.items()}, frames=_TIMED)
    for file, found in scores.items():
        text = ", ".join(f"{said} {100 * found.summary[mean]:.2f}" for mean, said in _MEANS.items())
        p50, p99, _ = latency[file]
        _log.info("%s: %s; %.1f ms a frame (p99 %.1f)", file, text, p50, p99)
    before, after = scores[MODELS["onnx"]].summary, scores[name].summary
    lost = {mean: 100 * (before[mean] - after[mean]) for mean in _MEANS}
    if not max(lost.values()) <= _MOST_LOST and not force:
        said = ", ".join(f"{100 * before[mean]:.2f} to {100 * after[mean]:.2f} ({_MEANS[mean]})" for mean in _MEANS)
        raise ExportError(
            f"INT8 falls from {said} on split {val.name}, by more than {_MOST_LOST}; nothing was written; --force "
            "writes it all the same, --format=onnx does without it"
        )
    facts |= {
        "calibration": {"split": train.name, "samples": min(len(train), _CALIBRATION_SAMPLES)},
        "scores": {file: found.to_dict() for file, found in scores.items()},
        "latency_ms": {file: found._asdict() for file, found in latency.items()},
        "machine": machine(),
    }
    manifest = {**export.manifest, "formats": {**export.manifest["formats"], "int8": facts}}
    return export._replace(models={**export.models, name: model}, manifest=manifest)


def _require_outputs(export: NetworkExport, config: Config) -> None:
    """Raises ExportError unless the export can be calibrated and scored on the data set."""
    if "classes" not in export.manifest["outputs"]:
        raise ExportError("int8 is scored by its classes; add them to --outputs, or leave int8 out")
    cameras = export.manifest["rig"]["cameras"]
    if cameras != list(config.data.cameras):
        raise ExportError(
            f"int8 is calibrated and scored on samples with the cameras {', '.join(config.data.cameras)}, the rig has "
            f"{', '.join(cameras)}; leave int8 out, or --calibration"
        )


def _require_rig_of(export: NetworkExport, config: Config, split: SplitIndex) -> None:
    """Raises ExportError where the export's rig is no rig of the split: a score of nothing falls by nothing."""
    own = {name: np.array(value) for name, value in export.manifest["rig"].items()}
    reader = SampleReader(config, open_source(config.data, split, Parts()), augment=None)
    theirs = reader(0, np.random.default_rng(0)).rig._asdict()
    pose = np.abs(own["cam_from_grid"] - theirs["cam_from_grid"])
    # Of the network's input, whatever size the images were recorded in.
    focal, other = ((rig["input_from_pixel"] @ rig["pixel_from_cam"])[:, [0, 1], [0, 1]] for rig in (own, theirs))
    # A vehicle moves between its cameras' exposures and is not built like the next one, by this much at most.
    if pose[:, :3, 3].max() > 2 or pose[:, :3, :3].max() > 0.2 or np.abs(np.log(focal / other)).max() > 0.1:
        raise ExportError(
            f"int8 is scored on split {split.name}, whose cameras look elsewhere than those of the exported rig: the "
            "score would say nothing; leave int8 out, or --calibration, or write it all the same with --force"
        )


def _calibration_frames(config: Config, split: SplitIndex) -> Iterator[UInt8[np.ndarray, "1 n h w 3"]]:
    """Images of samples spread over a split, as the predictor prepares them."""
    reader = SampleReader(config, open_source(config.data, split, Parts()), augment=None)
    rows = np.unique(np.linspace(0, len(split) - 1, _CALIBRATION_SAMPLES).astype(int))
    progress = Progress(f"INT8: ranges on {split.name}", len(rows), _log.info)
    for row in rows.tolist():
        yield reader(row, np.random.default_rng(0)).images[None]
        progress.advance()


def _scores(
    config: Config, index: Index, classes_of: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, Scores]:
    """By name, what the protocol says of each function from images to classes, all on the same samples."""
    split = index.split(config.data.val_split)
    empty = VoxelMiou.empty(label_set(config.data.labels), config.grid.build())
    states = dict.fromkeys(classes_of, empty)
    samples = min(len(split), config.eval.max_samples or len(split))
    progress = Progress(f"INT8: scores on {split.name}", samples, _log.info)
    loader = make_eval_loader(
        config, index, split.name, Parts(labels=True), batch_size=1, max_samples=config.eval.max_samples
    )
    with contextlib.closing(loader):
        for batch in loader:
            assert batch.labels is not None
            semantics, masks = batch.labels
            for name, function in classes_of.items():
                mask = None if masks is None else masks[0]
                states[name] = states[name].update(function(batch.images), semantics[0], mask)
            progress.advance()
    # By the protocol's own mask, where it has one.
    return {name: state.compute()[0] for name, state in states.items()}
