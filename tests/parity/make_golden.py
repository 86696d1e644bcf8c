"""Makes the committed golden: what our PyTorch reference predicts with random weights.

    python tests/parity/make_golden.py

writes tests/parity/resnet*.npz anew; needs `pip install -e '.[torch]'`.
"""

# ruff: noqa: T201

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from random_golden import CASES, GRID, SIZE, golden_config, golden_file, golden_images, golden_rig, golden_weights
from torch_student import TorchStudent

# A point this near to the border of its cell may fall into the next one on another machine.
_CLEARANCE = 2e-5


def make(depth: int, splat: str) -> dict[str, np.ndarray]:
    """Rig and predictions of a case, in our layouts."""
    config = golden_config(depth, splat)
    model = TorchStudent(config, GRID).eval()
    weights = {key: torch.as_tensor(value) for key, value in golden_weights(config).items()}
    outcome = model.load_state_dict(weights, strict=False)
    missing = [key for key in outcome.missing_keys if not key.endswith("num_batches_tracked")]
    assert not missing and not outcome.unexpected_keys, outcome
    rig = golden_rig()
    tensors = {name: torch.as_tensor(value) for name, value in rig._asdict().items()}
    with torch.no_grad():
        points = model.vt.points(tensors, SIZE, tuple(size // 16 for size in SIZE))[..., :2].numpy()
        logits, depth_logits, lifted, bev = model(torch.as_tensor(golden_images().transpose(0, 1, 4, 2, 3)), tensors)
    position = (points - GRID.lower_m[:2]) / GRID.voxel_size_m
    clearance = np.abs(position - np.round(position)).min()
    assert clearance > _CLEARANCE, f"a point lies {clearance:.1e} voxels from a border: take another seed"
    return {
        **{f"rig_{name}": value for name, value in rig._asdict().items()},
        "depth_logits": depth_logits.numpy().transpose(0, 1, 3, 4, 2),
        "lifted_features": lifted.numpy().transpose(0, 3, 2, 1),
        "bev_features": bev.numpy().transpose(0, 3, 2, 1),
        "voxel_logits": logits.numpy(),
    }


if __name__ == "__main__":
    for case in CASES:
        path = golden_file(*case)
        np.savez_compressed(path, **make(*case))
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
