"""Folder of an export: a network of one rig in several formats, written whole, and read by its manifest."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from occjax.config import Config
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.predict.export_card import CARD, card
from occjax.predict.fixed_network import OUTPUTS
from occjax.storage import versions, write_json, writing

# Files by format, those that `occjax.load` takes first in front.
MODELS = {"stablehlo": "model.stablehlo", "onnx": "model.onnx", "int8": "model_int8.onnx"}
_MOST_PIXELS = 1 << 26  # of an image
# Matrices of the manifest's rig, a row for each camera, and their sizes.
RIG_MATRICES = {"pixel_from_cam": 3, "cam_from_grid": 4, "input_from_pixel": 3}
MANIFEST, REFERENCE = "export.json", "reference.npz"


class ExportError(UserError):
    """An export that cannot be made, or that does not compute what the student does."""


class NetworkExport(NamedTuple):
    """The network of a rig in every format that was asked for, not written yet.

    Attributes:
      models: content of each file by its name.
      reference: input and outputs to compare with.
      manifest: facts, by format among others; the configuration apart.
    """

    models: dict[str, bytes]
    reference: dict[str, np.ndarray]
    manifest: dict[str, Any]


def write_export(folder: Path, export: NetworkExport, config: Config) -> list[Path]:
    """Writes an export in the place of whatever export the folder, made if absent, has held; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in export.models.items()}
    # Beside the old one, which stays if this fails.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch:
        made = Path(scratch)
        for name, content in export.models.items():
            with writing(made / name) as path:
                path.write_bytes(content)
        with writing(made / REFERENCE) as path, path.open("wb") as opened:
            np.savez_compressed(opened, **export.reference)
        write_json(made / "config.json", {"config": config.to_dict(), "versions": versions()})
        with writing(made / CARD) as path:
            path.write_text(card(export.manifest, tuple(export.models)), encoding="utf-8")
        write_json(made / MANIFEST, {**export.manifest, "sha256": digests})
        # The manifest goes first and comes last: without it the folder is no export, and never half of one.
        for name in (MANIFEST, *MODELS.values()):
            (folder / name).unlink(missing_ok=True)
        names = [*export.models, REFERENCE, "config.json", CARD, MANIFEST]
        for name in names:
            (made / name).replace(folder / name)
    return [folder / name for name in names]


def read_model(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """The file `name` of an export.

    Raises:
      ExportError: it cannot be read, or is not what was exported; runtimes say of damage whatever they stumble over.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ExportError(
            f"cannot read {folder / name}, which {MANIFEST} speaks of: {error.strerror}; export again"
        ) from error
    if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
        raise ExportError(f"{folder / name} is damaged, or not of the export that it lies in; export again")
    return content


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
      ExportError: it cannot be read, or does not say what an export is of.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        rig, cameras = found["rig"], found["rig"]["cameras"]
        lists = (cameras, found["outputs"], found["input"])
        matrices = {name: np.array(rig[name], np.float64).shape for name in RIG_MATRICES}
        if not all(isinstance(values, list) for values in lists):
            raise TypeError("cameras, outputs and input are lists")
        batch, count, height, width, colours = map(int, found["input"])
        if (batch, count, colours) != (1, len(cameras), 3) or min(height, width) < 1 or height * width > _MOST_PIXELS:
            raise ValueError(f"images of {len(cameras)} cameras are not {found['input']}")
        if not all(np.isfinite(np.array(rig[name], np.float64)).all() for name in RIG_MATRICES):
            raise ValueError("matrices hold numbers that are not finite")
        if found["outputs"] != [name for name in OUTPUTS if name in found["outputs"]]:
            raise ValueError(f"outputs are some of {', '.join(OUTPUTS)}, in this order, not {found['outputs']}")
        if not isinstance(found["step"], int):
            raise TypeError(f"step is a number, not {found['step']!r}")
        if matrices != {name: (len(cameras), size, size) for name, size in RIG_MATRICES.items()}:
            raise ValueError(f"matrices of {len(cameras)} cameras are {matrices}")
        if not all(isinstance(name, str) for name in (*cameras, *found["outputs"])):
            raise TypeError("cameras and outputs are names")
        if not isinstance(found["formats"], dict) or not MODELS.keys() & found["formats"].keys():
            raise ValueError(f"it speaks of no model; there may be {', '.join(MODELS)}")
        if not {MODELS[name] for name in MODELS.keys() & found["formats"].keys()} <= found["sha256"].keys():
            raise ValueError("it does not say what its models are known by")
        VoxelGrid.from_dict(dict(found["grid"]))
        return {**found, "input": (batch, count, height, width, colours), "coverage": float(found["coverage"])}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ExportError(f"{folder / MANIFEST} cannot be read: {error}; export again") from error
