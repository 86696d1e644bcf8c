"""Model folder: a student that travels, as model hubs lay it out; weights, configuration, scores and a card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from occjax.config import Config
from occjax.models.student import abstract_student
from occjax.predict.stored_weights import CheckpointError, Weights
from occjax.predict.temperature import NO_TEMPERATURE, sound_temperature
from occjax.storage import versions, write_json, writing
from occjax.system.mesh import replicated

WEIGHTS = "model.safetensors"
_STEP, _TEMPERATURE, _CONFIG = "step", "temperature", "config_sha256"


def write_model_folder(
    folder: Path,
    config: Config,
    weights: Weights,
    *,
    initialisation: dict[str, str] | None,
    metrics: dict[str, Any] | None,
) -> list[Path]:
    """Writes `model.safetensors`, `config.json`, `metrics.json` (where there are scores) and `README.md`, the card.

    Args:
      folder: made if absent.
      config: of the run.
      weights: what the student predicts with.
      initialisation: what they started from, as a run's config.json holds it.
      metrics: of an evaluation of these weights, as its metrics.json holds it.

    Raises:
      OSError: it cannot be written.
    """
    entry = config.to_dict()
    arrays = {name: np.asarray(leaf) for name, leaf in named_arrays(weights.params, weights.batch_stats).items()}
    with writing(folder / WEIGHTS) as scratch:
        # As bytes: `save_file` makes files that nobody but their owner can read.
        facts = {_STEP: str(weights.step), _TEMPERATURE: repr(weights.temperature), _CONFIG: _digest(entry)}
        scratch.write_bytes(save(arrays, metadata={"format": "occjax", **facts}))
    write_json(
        folder / "config.json",
        {"config": entry, "initialisation": initialisation, "versions": versions()},
    )
    written = [folder / WEIGHTS, folder / "config.json"]
    # Scores of other weights do not stay.
    (folder / "metrics.json").unlink(missing_ok=True)
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)
        written.append(folder / "metrics.json")
    count = sum(array.size for name, array in arrays.items() if name.startswith("params."))
    with writing(folder / "README.md") as scratch:
        scratch.write_text(_card(config, weights, count, initialisation, metrics), encoding="utf-8")
    return [*written, folder / "README.md"]


def read_model_folder(folder: Path, config: Config, mesh: Mesh) -> Weights:
    """The weights of a folder, whole on each device of `mesh`.

    Raises:
      CheckpointError: they are damaged, or of another model than its configuration says.
    """
    path = folder / WEIGHTS
    _, params, batch_stats = abstract_student(config.model, config.grid.build())
    wanted = named_arrays(params, batch_stats)
    try:
        stored = load_file(path)
        facts = _metadata(path)
        is_of_it = _CONFIG not in facts or facts[_CONFIG] == _digest_of(folder / "config.json")
        step, temperature = int(facts.get(_STEP, 0)), sound_temperature(facts.get(_TEMPERATURE, NO_TEMPERATURE))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; export or download it again") from error
    if not is_of_it:
        raise CheckpointError(
            f"{folder / 'config.json'} is not the one that {WEIGHTS} was exported with; keep both files of one export "
            "together, or export again into a folder of its own"
        )
    problems = [f"missing: {name}" for name in wanted if name not in stored]
    problems += [f"not in the model: {name}" for name in stored if name not in wanted]
    problems += [
        f"shape: {name} {stored[name].shape} stored, {leaf.shape} wanted"
        for name, leaf in wanted.items()
        if name in stored and stored[name].shape != leaf.shape
    ]
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise CheckpointError(
            f"{path} does not fit the model of its config.json:\n  " + "\n  ".join(problems[:10]) + more + "\n"
            "keep both files of one export together"
        )
    structure = jax.tree.structure((params, batch_stats))
    placed = [jax.device_put(stored[name], replicated(mesh)) for name in wanted]
    params, batch_stats = jax.tree.unflatten(structure, placed)
    return Weights(params, batch_stats, step, temperature)


def named_arrays(params: dict, batch_stats: dict) -> dict[str, Any]:
    """Leaves by dotted name, `params.backbone.stem.conv.kernel`, in the order of `jax.tree.leaves`."""
    trees = {"params": params, "batch_stats": batch_stats}
    return {
        f"{kind}.{jax.tree_util.keystr(path, simple=True, separator='.')}": leaf
        for kind, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _digest(config: dict[str, Any]) -> str:
    """Of a configuration as JSON gives it back."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _digest_of(path: Path) -> str:
    return _digest(json.loads(path.read_text(encoding="utf-8"))["config"])


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return header.get("__metadata__", {})


def _card(config: Config, weights: Weights, parameters: int, initialisation: dict | None, metrics: dict | None) -> str:
    grid = config.grid.build()
    started = "not recorded" if initialisation is None else ", ".join(v for v in initialisation.values() if v)
    learned = "ground truth and a teacher" if config.loss.distill.is_on else "ground truth"
    lines = [
        "---",
        "library_name: occjax",
        "tags: [occupancy, autonomous-driving, jax, flax]",
        "license: other  # fill in",
        "---",
        "",
        f"# {config.name}",
        "",
        "Camera images to 3D semantic occupancy: 18 classes in every voxel around a vehicle.",
        "",
        "```python",
        "import occjax",
        'predictor = occjax.load("path/of/this/folder")',
        'occupancy = predictor(images, occjax.read_calibration("rig.yaml"))',
        "```",
        "",
        "| | |",
        "| --- | --- |",
        f"| grid | {grid} |",
        f"| input | {len(config.data.cameras)} cameras ({', '.join(config.data.cameras)}), "
        f"{config.data.image_width}×{config.data.image_height} |",
        f"| parameters | {parameters / 1e6:.2f} M, {config.eval.weights} weights after {weights.step} updates |",
        f"| probabilities | of the logits divided by {weights.temperature:.4g} |",
        f"| data | {config.data.version}, split {config.data.train_split}, {config.data.labels} labels; learned from "
        f"{learned} |",
        f"| started from | {started} |",
        "| licence of the weights | fill in; data sets that they were trained on may restrict it |",
        "| licence of the code | Apache-2.0 |",
        "",
        "## Scores",
        "",
    ]
    if metrics is None:
        return "\n".join([*lines, "Not evaluated.", ""])
    lines += ["| protocol | mask | mIoU | IoU, occupied |", "| --- | --- | ---: | ---: |"]
    # In per cent, as metrics.json has them; None where a score is undefined, absent where it is of rays.
    for scores in metrics["protocols"]:
        if "miou" in scores:
            said = " | ".join("-" if scores[name] is None else f"{scores[name]:.2f}" for name in ("miou", "iou"))
            lines.append(f"| {scores['protocol']} | {scores['mask']} | {said} |")
    return "\n".join(
        [*lines, "", f"On {metrics['samples']} samples of split {metrics['split']}; the rest is in `metrics.json`.", ""]
    )
