"""Predictor of an export: StableHLO, ONNX or its INT8 of one rig, which it refuses to leave."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from occjax.config import Config
from occjax.predict.export import stablehlo_program
from occjax.predict.export_folder import MODELS, RIG_MATRICES, ExportError, read_manifest, read_model
from occjax.predict.images import NetworkInput
from occjax.predict.occupancy import Occupancy
from occjax.predict.onnx_runtime import onnx_session
from occjax.predict.predictor import Predictor
from occjax.predict.rig import CalibrationError, Rig
from occjax.predict.temperature import NO_TEMPERATURE

# Pixels and metres: as far as a calibration changes by being written and read again.
_TOLERANCE = 1e-3
_PACKAGES = {
    MODELS["stablehlo"]: "flatbuffers",
    MODELS["onnx"]: "onnxruntime",
    MODELS["int8"]: "onnxruntime",
}
_FLOOR = 1e-7  # probabilities are float16, in which smaller ones are 0


class ExportedPredictor(Predictor):
    """As a predictor, of the rig that an export holds.

    StableHLO is taken before ONNX, and ONNX before its INT8, which has to be asked for where it is not alone; a format
    whose package is absent is passed over.
    """

    def __init__(self, config: Config, path: Path):
        """Of the folder that `--mode=export` wrote, or of one model in it."""
        self._folder = path.parent if path.is_file() else path
        self._manifest = read_manifest(self._folder)
        there = [MODELS[name] for name in MODELS if name in self._manifest["formats"]]
        runnable = [file for file in there if importlib.util.find_spec(_PACKAGES[file]) is not None]
        # Where none can run, the first one's error says what to install.
        self._model = path.name if path.is_file() else (runnable or there)[0]
        if self._model not in there:
            raise ExportError(f"{path} is no model of the export that it lies in; that has {', '.join(there)}")
        self.grid = config.grid.build()
        of_config = (self.grid.to_dict(), (config.data.image_height, config.data.image_width))
        if of_config != (self._manifest["grid"], self._manifest["input"][2:4]):
            raise ExportError(
                f"the network in {self._folder} was exported for another grid or input size than its config.json, or "
                "--config, says; export again, into a folder of its own"
            )
        self.cameras = tuple(self._manifest["rig"]["cameras"])
        self.input_size = (config.data.image_width, config.data.image_height)
        self.step = self._manifest["step"]
        # What its probabilities have been divided by already.
        self.temperature = self._manifest.get("temperature", NO_TEMPERATURE)
        self._run = self._runner()

    def _runner(self) -> Callable[[np.ndarray], tuple]:
        content = read_model(self._folder, self._manifest, self._model)
        if self._model == MODELS["stablehlo"]:
            return stablehlo_program(content)
        session = onnx_session(content)
        return lambda images: tuple(session.run(None, {"images": np.asarray(images)}))

    def predict(self, frame: NetworkInput) -> Occupancy:
        """Occupancy of a frame of the export's own rig."""
        self._require_rig(frame)
        found = dict(zip(self._manifest["outputs"], self._run(frame.images), strict=True))
        if "classes" not in found:
            raise ExportError(f"this export gives {', '.join(found)} alone; export with --outputs=classes")
        probabilities = found.get("probabilities")
        logits = None if probabilities is None else np.log(np.maximum(np.float32(probabilities), _FLOOR))
        return Occupancy(logits, found["classes"], self._manifest["coverage"], self.grid)

    def fix(self, rig: Rig) -> None:
        """Nothing: an export is fixed; whether it is this rig is looked at with every frame."""

    def warm_up(self, cameras: int) -> None:
        """Compiles and runs once."""
        jax.block_until_ready(self._run(np.zeros(self._manifest["input"], np.uint8)))

    def _require_rig(self, frame: NetworkInput) -> None:
        own = self._manifest["rig"]
        advice = "export the run for this rig, or load the run itself, which takes any"
        found = frame.rig.is_present.shape[1]
        if found != len(self.cameras):
            raise CalibrationError(f"this export is of {len(self.cameras)} cameras, the rig has {found}; {advice}")
        # First: of a camera without an image nothing else is known for certain.
        missing = [name for name, there in zip(self.cameras, frame.rig.is_present[0], strict=True) if not there]
        if missing:
            raise CalibrationError(f"an export wants all of its cameras; {', '.join(missing)} missing; {advice}")
        for name in RIG_MATRICES:
            difference = np.abs(np.asarray(getattr(frame.rig, name))[0] - np.asarray(own[name], np.float64)).max(
                axis=(1, 2)
            )
            if difference.max() > _TOLERANCE:
                camera = self.cameras[int(difference.argmax())]
                raise CalibrationError(
                    f"this export is of another rig: {name} of {camera} differs by {difference.max():.3g}; {advice}"
                )
