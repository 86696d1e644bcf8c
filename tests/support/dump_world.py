"""A small nuScenes root with labels and a teacher dump that fits them."""

import numpy as np
from nuscenes_root import write_root

from occjax.classes import FREE, NUM_CLASSES
from occjax.config import DataConfig
from occjax.convert.dump.options import DumpOptions
from occjax.data.index import load_index
from occjax.grid import VoxelGrid

# A crop of SurroundOcc's grid, so that its label files serve.
GRID = VoxelGrid("lidar", (-10.0, -10.0, -3.0), 0.5, (40, 40, 8))
OFFSET = np.array([80, 80, 4])
OPTIONS = DumpOptions(grid=GRID)


def scene(seed):
    r = np.random.default_rng(seed)
    labels = np.full(GRID.shape, FREE, np.uint8)
    labels[:, :, 1] = np.where(r.random((40, 1)) < 0.5, 11, 13)
    for _ in range(14):
        x, y = r.integers(0, 32, 2)
        labels[x : x + r.integers(2, 8), y : y + r.integers(2, 8), 2 : r.integers(3, 8)] = r.integers(1, 17)
    return labels


def probabilities_of(labels, seed):
    """Class-first, right where it is sure, soft around."""
    r = np.random.default_rng(seed)
    probs = r.dirichlet(np.full(NUM_CLASSES, 0.2), labels.shape).astype(np.float32)
    one_hot = np.eye(NUM_CLASSES, dtype=np.float32)[labels]
    mixed = np.where((labels == FREE)[..., None], one_hot, 0.75 * one_hot + 0.25 * probs)
    return np.moveaxis(mixed, -1, 0).astype(np.float16)


class World:
    def __init__(self, root, cameras=("CAM_FRONT",)):
        self.root = write_root(root, scenes={"scene-0061": 2, "scene-0055": 2, "scene-0003": 1}, cameras=cameras)
        self.data = DataConfig(root=str(self.root))
        index = load_index(self.data)
        self.samples = [
            (split, row, token, index.split(split).lidar_file[row].decode())
            for split in ("train", "val")
            for row, token in enumerate(index.split(split).tokens)
        ]
        self.labels, self.dumped = {}, {}
        for seed, (_, _, token, lidar_file) in enumerate(self.samples):
            labels = scene(seed)
            occupied = np.argwhere(labels != FREE)
            listed = np.concatenate([occupied + OFFSET, labels[tuple(occupied.T)][:, None]], 1)
            np.save(self.root / "surroundocc/samples" / f"{lidar_file.split('/')[-1]}.npy", listed.astype(np.int32))
            self.labels[token] = labels
            self.dumped[token] = probabilities_of(labels, seed)

    def dump(self, folder, change=lambda probs: probs, order=None, bev=False):
        """Writes the dump as the script does; `order` permutes what is written under each position."""
        for i, (split, row, _, _) in enumerate(self.samples):
            token = self.samples[order[i] if order else i][2]
            probs = change(self.dumped[token])
            kind = "bev_prob" if bev else "occ3d_logits"
            target = folder / kind / split / f"{row:06d}_0_{'bev_prob' if bev else '3d_logits'}_fp16.npz"
            target.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(target, **{"prob" if bev else "logits": probs.max(-1) if bev else probs})
        return folder
