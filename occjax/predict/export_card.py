"""What goes with an exported network: the meaning of its input and outputs, for programs and for people."""

import json
from typing import Any

from occjax.classes import CLASS_NAMES, FREE
from occjax.grid import VoxelGrid
from occjax.predict.rig import Lens, Rig

CARD = "EXPORT.md"
_AXES = {"lidar": "x right, y forward, z up", "ego": "x forward, y left, z up"}
_OUTPUTS = {
    "classes": "uint8 [X, Y, Z], likeliest class of each voxel",
    "probabilities": "float16 [X, Y, Z, {count}], of each class; of the network's logits divided by {temperature:.4g}",
    "bev": "uint8 [X, Y], class of the highest voxel of each column that is not free, {free} where there is none",
}


def facts_of(rig: Rig, grid: VoxelGrid) -> dict[str, Any]:
    """Facts of a manifest that somebody without occjax needs: classes, grid, and how images were recorded."""
    return {
        "classes": list(CLASS_NAMES),
        "grid": grid.to_dict(),
        "recorded": {
            "sizes": None if rig.sizes is None else rig.sizes.tolist(),
            "lenses": [None if lens is None else _lens(lens) for lens in rig.lenses],
        },
    }


def metadata_of(manifest: dict[str, Any]) -> dict[str, str]:
    """The same as texts, which an ONNX file holds itself (`metadata_props`), for those who have it alone."""
    described = {name: json.dumps(manifest[name]) for name in ("classes", "grid", "temperature", "step")}
    return described | {"cameras": json.dumps(manifest["rig"]["cameras"]), "images": _images_in_words(manifest)}


def card(manifest: dict[str, Any], files: tuple[str, ...]) -> str:
    """A page on the export: what goes in, what comes out, and a program that runs it without occjax."""
    grid = VoxelGrid.from_dict(manifest["grid"])
    cameras, lenses = manifest["rig"]["cameras"], manifest["recorded"]["lenses"]
    size = ", ".join(f"{name} = {count}" for name, count in zip("XYZ", grid.shape, strict=True))
    said = {"count": len(CLASS_NAMES), "free": FREE, "temperature": manifest["temperature"]}
    lines = [
        "# Exported network",
        "",
        f"Of one rig: {', '.join(cameras)}, in this order. `export.json` has its matrices; another rig wants an export "
        "of its own. `occjax.load` of this folder does all that follows.",
        "",
        f"**In**: `images`, {_images_in_words(manifest)}.",
        "",
        "**Out**:",
        "",
        *(f"* `{name}`: {_OUTPUTS[name].format(**said)}" for name in manifest["outputs"]),
        "",
        f"Axes: {_AXES[grid.frame]}, {size}; voxel [i, j, k] has its centre at {grid.lower_m} + {grid.voxel_size_m} · "
        f"([i, j, k] + 0.5) m in the {grid.frame} frame.",
        "",
        "**Classes**: " + ", ".join(f"{number} {name}" for number, name in enumerate(CLASS_NAMES)) + ".",
        "",
    ]
    models = [name for name in files if name.endswith(".onnx")]
    if models:
        lines += ["```python", *_program(models[0], manifest["outputs"], any(lenses)), "```", ""]
    return "\n".join(lines)


def _images_in_words(manifest: dict[str, Any]) -> str:
    height, width = manifest["input"][2:4]
    undone = (
        "undistorted as `recorded.lenses` of export.json says, then " if any(manifest["recorded"]["lenses"]) else ""
    )
    return (
        f"uint8 {manifest['input']}, RGB, a whole image of each camera, {undone}resized to {width}×{height}: by the "
        "means of areas where it becomes smaller, else linearly"
    )


def _program(model: str, outputs: list[str], has_lenses: bool) -> list[str]:
    undone = [
        "    lens = export['recorded']['lenses'][i]",
        "    if lens:",
        "        k, d, p = (np.array(lens[key]) for key in ('camera_matrix', 'coefficients', 'projection'))",
        "        undo = cv2.fisheye if lens['model'] == 'fisheye' else cv2",
        "        maps = undo.initUndistortRectifyMap(k, d, np.eye(3), p, image.shape[1::-1], cv2.CV_16SC2)",
        "        image = cv2.remap(image, *maps, cv2.INTER_LINEAR)",
    ]
    return [
        "import json, pathlib",
        "import cv2, numpy as np, onnxruntime",
        "",
        "export = json.loads(pathlib.Path('export.json').read_text())",
        "images = np.zeros(export['input'], np.uint8)",
        "height, width = images.shape[2:4]",
        "for i, name in enumerate(export['rig']['cameras']):",
        "    image = cv2.cvtColor(cv2.imread(f'{name}.png'), cv2.COLOR_BGR2RGB)",
        *(undone if has_lenses else []),
        "    is_smaller = height <= image.shape[0] and width <= image.shape[1]",
        "    how = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR",
        "    images[0, i] = cv2.resize(image, (width, height), interpolation=how)",
        f"session = onnxruntime.InferenceSession('{model}')",
        f"{', '.join(outputs)}{',' if len(outputs) == 1 else ''} = session.run(None, {{'images': images}})",
    ]


def _lens(lens: Lens) -> dict[str, Any]:
    """As OpenCV takes it."""
    return {
        "model": "fisheye" if lens.is_fisheye else "polynomial",
        "camera_matrix": lens.distorted_from_cam.tolist(),
        "coefficients": lens.coefficients.tolist(),
        "projection": lens.pixel_from_cam.tolist(),
    }
