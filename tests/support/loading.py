"""Set-up that the loader tests share: a small configuration, a teacher that repeats the labels, exact comparison."""

import numpy as np
from nuscenes_root import surroundocc_voxels

from occjax.config import NUSCENES_CAMERAS, Config
from occjax.data.parts import Parts
from occjax.data.pipeline import BatchLoader, make_eval_loader, make_train_loader
from occjax.grid import SURROUNDOCC_GRID
from occjax.targets.files import SparseTeacher, compact_teacher, write_manifest, write_teacher
from occjax.targets.reader import complete_teacher
from occjax.train.parts import training_parts


def make_config(root, **data) -> Config:
    config = Config()
    config.data.root = str(root)
    config.data.image_height, config.data.image_width = 32, 48
    config.data.cameras = NUSCENES_CAMERAS[:2]
    config.data.workers = 0
    config.grid.lower_m, config.grid.shape = (-20.0, -20.0, -5.0), (80, 80, 16)
    for name, value in data.items():
        setattr(config.data, name, value)
    return config


def train_loader(config: Config, index, **processes) -> BatchLoader:
    """The loader of training."""
    return make_train_loader(config, index, training_parts(config), **processes)


def eval_loader(config: Config, index, split: str, **options) -> BatchLoader:
    """A loader of evaluation, with depth maps where they are supervised."""
    teacher = complete_teacher(config, split, index.split(split).tokens)
    parts = Parts(lidar=config.loss.depth > 0, labels=True, teacher=teacher)
    return make_eval_loader(config, index, split, parts, **options)


def augmented(config: Config) -> Config:
    config.augment.image_scale, config.augment.image_rotate_deg, config.augment.image_flip = (0.9, 1.2), 10.0, True
    config.augment.bev_scale, config.augment.bev_rotate_deg = (0.95, 1.05), 22.5
    config.augment.bev_flip_x = config.augment.bev_flip_y = True
    return config


def write_teacher_folder(folder, split, *, grid=SURROUNDOCC_GRID, max_active_voxels=5000):
    """A teacher that gives 0.9 to the class of every labelled voxel."""
    folder.mkdir()
    for row, name in enumerate(split.tokens):
        x, y, z, classes = surroundocc_voxels(split.scene_names[row], int(split.frame_index[row])).T
        index = np.ravel_multi_index((x, y, z), SURROUNDOCC_GRID.shape).astype(np.int32)
        rows = np.full((len(index), 18), 0.1 / 17, np.float32)
        rows[np.arange(len(index)), classes] = 0.9
        order = np.argsort(index)
        background = np.array([1e-5] * 17 + [1 - 17e-5], np.float32)
        sparse = SparseTeacher(index[order], rows[order], background)
        write_teacher(folder / f"{name}.npz", compact_teacher(name, grid, sparse))
    write_manifest(
        folder,
        grid=grid,
        form="compact",
        samples=len(split),
        max_active_voxels=max_active_voxels,
        contents={"voxels": True, "bev": False, "validity": False},
        source="labels",
        matched_by="token",
        value_kind={"probabilities": len(split)},
        details={},
    )


def leaves(batch):
    if batch is None:
        return []
    if isinstance(batch, (tuple, list)):
        return [leaf for part in batch for leaf in leaves(part)]
    return [np.asarray(batch)]


def assert_same(first, second):
    for a, b in zip(leaves(first), leaves(second), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def take(loader, count):
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches
