"""Temperature of a checkpoint: what its logits are divided by, so that its probabilities of occupancy are honest."""

import json
import math
from pathlib import Path

from occjax.predict.checkpoint_folders import CheckpointError
from occjax.storage import write_json

# What a network's own probabilities have.
NO_TEMPERATURE = 1.0


def write_temperature(checkpoint: Path, which: str, temperature: float, *, split: str, samples: int) -> Path:
    """Keeps a temperature in the folder of its checkpoint, which it goes with wherever that goes; returns the file.

    Args:
      checkpoint: folder.
      which: weights that it was fitted for, "ema" or "raw".
      temperature: see `occjax.metrics.calibration.Calibration`.
      split: that it was fitted on.
      samples: how many.

    Raises:
      CheckpointError: the folder is gone, as of a run that goes on.
      OSError: it cannot be written.
    """
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint} is gone: the run went on and dropped it; fit the newest again")
    path = _path(checkpoint, which)
    write_json(path, {"temperature": temperature, "split": split, "samples": samples})
    return path


def read_temperature(checkpoint: Path, which: str) -> float:
    """The temperature of a checkpoint's weights, 1 where none was fitted.

    Raises:
      CheckpointError: the file cannot be read, or holds none.
    """
    path = _path(checkpoint, which)
    if not path.exists():
        return NO_TEMPERATURE
    try:
        return sound_temperature(json.loads(path.read_text(encoding="utf-8"))["temperature"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} holds no temperature ({error}); delete it, or fit another by --mode=eval --fit-temperature"
        ) from error


def sound_temperature(value: float | int | str) -> float:
    """`value` as a temperature; raises ValueError unless it is a finite number above 0."""
    temperature = float(value)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"a temperature is a number above 0, not {value}")
    return temperature


def _path(checkpoint: Path, which: str) -> Path:
    return checkpoint / f"temperature-{which}.json"
