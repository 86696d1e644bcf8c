"""The dump surface as files: everything that GaussianFormer's dump script writes of one sample, under its names."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from occjax.classes import FREE, OTHERS
from occjax.convert.dump import bev_maps
from occjax.convert.dump.surface import SurfaceOptions
from occjax.convert.dump.values import LOGITS, softmax
from occjax.targets.column_rule import topmost_distribution

# Behind <kind>/<split>/<id>_.
_ENDINGS = {
    "occ3d_sem": "occ3d_sem.npy",
    "bev_sem": "bev_sem.npy",
    "bev_vis": "bev_sem.png",
    "gt_bev": "gt_bev_sem.npy",
    "gt_bev_vis": "gt_bev_sem.png",
    "gt_bev_mask_vis": "gt_bev_mask.png",
}


class Scene(NamedTuple):
    """What there is of a sample to write.

    Attributes:
      planes: scores [K, X, Y, Z] with free last; None where there is a BEV map alone.
      value_kind: what they are, probabilities or logits.
      labels: uint8 [X, Y, Z] most likely class of each voxel, or None as above.
      bev: probabilities [X, Y, K] of such a map, None where there are voxels.
      truth: classes uint8 [X, Y, Z] and where they count, bool [X, Y, Z]; only where something is drawn from labels.
    """

    planes: Float[np.ndarray, "k x y z"] | None
    value_kind: str
    labels: UInt8[np.ndarray, "x y z"] | None
    bev: Float[np.ndarray, "x y k"] | None
    truth: tuple[UInt8[np.ndarray, "x y z"], Bool[np.ndarray, "x y z"]] | None


def surface_paths(options: SurfaceOptions, split: str, id: str, *, scores_type: str = "") -> dict[str, Path]:
    """The file of each kind that `options` ask for, of the sample `id`.

    `scores_type` is what the name of the voxel scores says of them, "logits" or "prob"; empty = as the dump script.
    """
    # The dump script calls its scores logits, whatever they are.
    scores = f"3d_{scores_type or 'logits'}_fp16.npz"
    endings = {**_ENDINGS, "occ3d_logits": scores, "bev_prob": f"bev_prob_fp16.{options.bev_prob_format}"}
    return {kind: folder / split / f"{id}_{endings[kind]}" for kind, folder in options.folders.items()}


def write_surface(options: SurfaceOptions, paths: dict[str, Path], scene: Scene, *, scores_type: str = "") -> None:
    """Writes a sample's files, each whole or not at all; what `scene` cannot give is for the caller to refuse.

    Args:
      options: how.
      paths: of `surface_paths`.
      scene: what there is.
      scores_type: as for `surface_paths`; the array in the file of voxel scores is called so.

    Raises:
      OSError: a file cannot be written.
    """
    content: dict[str, Callable[[], np.ndarray | None]] = {
        "occ3d_sem": lambda: scene.labels,
        "bev_sem": lambda: _semantics(options, scene),
        "bev_vis": lambda: _semantics(options, scene),
        "bev_prob": lambda: _bev_scores(options, scene),
        "occ3d_logits": lambda: scene.planes,
        "gt_bev": lambda: _truth(options, scene),
        "gt_bev_vis": lambda: _truth(options, scene),
        "gt_bev_mask_vis": lambda: _counted(scene),
    }
    for kind, path in paths.items():
        array = content[kind]()
        assert array is not None, f"{kind} asked for where there is none"
        if kind == "bev_prob":
            array = np.ascontiguousarray(np.moveaxis(_turned(options, array), -1, 0))
        elif array.ndim == 2:
            array = _turned(options, array)
        if path.suffix == ".png":
            bev_maps.write_png(path, bev_maps.colored(array, options.vis_scale))
        elif path.suffix == ".npy":
            bev_maps.write_npy(path, array)
        elif kind == "bev_prob":
            bev_maps.write_npz(path, compress=options.bev_prob_compress, **{options.bev_prob_type: array})
        else:
            name = scores_type or "logits"
            bev_maps.write_npz(path, compress=options.dump_3d_compress, **{name: array.astype(np.float16, copy=False)})


def _turned(options: SurfaceOptions, bev: Shaped[np.ndarray, "x y *k"]) -> Shaped[np.ndarray, "x2 y2 *k"]:
    return bev_maps.turn(bev, rotate_k=options.bev_rotate_k, flip_x=options.bev_flip_x, flip_y=options.bev_flip_y)


def _flat(options: SurfaceOptions, voxels: UInt8[np.ndarray, "x y z"]) -> UInt8[np.ndarray, "x y"]:
    return bev_maps.bev_semantics(
        voxels,
        mode=options.bev_sem_mode,
        scan_direction=options.bev_scan_direction,
        priority_ids=options.bev_priority_ids,
    )


def _semantics(options: SurfaceOptions, scene: Scene) -> UInt8[np.ndarray, "x y"]:
    if scene.labels is not None:
        return _flat(options, scene.labels)
    assert scene.bev is not None
    return scene.bev.argmax(-1).astype(np.uint8)


def _bev_scores(options: SurfaceOptions, scene: Scene) -> Float[np.ndarray, "x y k"]:
    bev = scene.bev
    if scene.planes is not None:
        # Slab by slab along x: the whole grid in float32 would be 46 MB several times over.
        slabs = (_probabilities(scene.planes[:, x], scene.value_kind) for x in range(scene.planes.shape[1]))
        bev = np.stack([topmost_distribution(slab, np) for slab in slabs])
    assert bev is not None
    return bev_maps.bev_scores(bev, kind=options.bev_prob_type, occupied_threshold=options.bev_prob_occ_thresh)


def _probabilities(scores: Shaped[np.ndarray, "k y z"], value_kind: str) -> Float[np.ndarray, "y z k"]:
    scores = scores.astype(np.float32)
    return np.moveaxis(softmax(scores) if value_kind == LOGITS else np.maximum(scores, 0), 0, -1)


def _truth(options: SurfaceOptions, scene: Scene) -> UInt8[np.ndarray, "x y"]:
    assert scene.truth is not None
    return _flat(options, scene.truth[0])


def _counted(scene: Scene) -> UInt8[np.ndarray, "x y"]:
    """Columns that count, as classes of the colours white and black."""
    assert scene.truth is not None
    return np.where(scene.truth[1].any(-1), np.uint8(FREE), np.uint8(OTHERS))
