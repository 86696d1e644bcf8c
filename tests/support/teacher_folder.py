"""A folder of small random teacher files."""

import numpy as np

from occjax.classes import FREE, NUM_CLASSES
from occjax.grid import VoxelGrid
from occjax.targets.codec import floored_log_probs
from occjax.targets.files import (
    DenseTeacher,
    compact_teacher,
    sparse_from_probabilities,
    write_manifest,
    write_teacher,
)

GRID = VoxelGrid("lidar", (-2.0, -1.5, -1.0), 0.5, (8, 6, 4))


def probabilities(seed=0, occupied=0.3):
    r = np.random.default_rng(seed)
    probs = np.zeros((*GRID.shape, NUM_CLASSES), np.float32)
    probs[..., FREE] = 1
    index = r.random(GRID.shape) < occupied
    probs[index] = r.dirichlet(np.full(NUM_CLASSES, 0.5), index.sum())
    return probs


def write_folder(folder, tokens=("a", "b"), form="compact", bev_only=False, valid=None, capacity=None):
    folder.mkdir(exist_ok=True)
    largest = 0
    for seed, token in enumerate(tokens):
        probs = probabilities(seed)
        sparse = sparse_from_probabilities(probs)
        largest = max(largest, len(sparse.index))
        if bev_only:
            teacher = compact_teacher(token, GRID, None, probs[:, :, 0])
        elif form == "dense":
            logits = floored_log_probs(probs).astype(np.float16)
            teacher = DenseTeacher(token, GRID, logits, logits[:, :, 0], valid)
        else:
            teacher = compact_teacher(token, GRID, sparse, None, valid)
        write_teacher(folder / f"{token}.npz", teacher)
    write_manifest(
        folder,
        grid=GRID,
        form=form,
        samples=len(tokens),
        max_active_voxels=largest if capacity is None else capacity,
        contents={"voxels": not bev_only, "bev": bev_only, "validity": valid is not None},
        source="test",
        matched_by="token",
        value_kind={"probabilities": len(tokens)},
        details={},
    )
    return folder
