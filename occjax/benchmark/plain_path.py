"""The data path that the benchmark measures ours against: every step as pipelines in PyTorch commonly take it.

OpenCV decodes the whole JPEG, Pillow resizes it, colours are distorted and normalised as float32 on the host, the
teacher is a compressed file of dense float16 scores, and everything is packed into the float arrays that a step takes.
It gives the same sample as ours: six images, depth, labels, teacher; with geometric augmentation where asked to.
"""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image

from occjax.benchmark.plain_augmentation import PlainAugmentation, PlainVoxelIndex, warp_image
from occjax.benchmark.timing import StageTimes
from occjax.classes import IGNORE
from occjax.config import Config
from occjax.data.files import label_path
from occjax.data.lidar import MIN_DEPTH_M, STRIDE
from occjax.data.sources import SampleSource
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.label_sets import label_set
from occjax.targets.moving import dense_log_probs

# Mirrors occjax.models.preprocess, which does this on the device and imports jax.
IMAGE_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
IMAGE_STD = np.array([58.395, 57.12, 57.375], np.float32)
# The usual ranges of SSD's distortion, so that the work is the usual one.
BRIGHTNESS, CONTRAST, SATURATION, HUE_DEG = 32.0, (0.5, 1.5), (0.5, 1.5), 18.0


class PlainSample(NamedTuple):
    """One sample, with a batch axis of 1.

    Attributes:
      resized: by camera, uint8 [H, W, 3] RGB that `images` were made from.
      images: float32 [1, N, 3, H, W] distorted and normalised.
      depth_m: float32 [1, N, H/16, W/16] nearest LiDAR depth per block, or None.
      labels: int64 [1, X, Y, Z] classes.
      teacher: float32 [1, K, X, Y, Z] probabilities, or None.
    """

    resized: list[np.ndarray]
    images: np.ndarray
    depth_m: np.ndarray | None
    labels: np.ndarray
    teacher: np.ndarray | None


class PlainPath:
    """Reads the samples that a source has from their files; `teacher_files` by row come from `write_dense_teacher`."""

    def __init__(self, config: Config, source: SampleSource, teacher_files: dict[int, Path]):
        self._data, self._split, self._has_lidar = config.data, source.split, source.parts.lidar
        self._label_set = label_set(config.data.labels)
        self._size = (config.data.image_width, config.data.image_height)
        self._grid, self._label_grid = config.grid.build(), self._label_set.grid
        # Without a teacher nothing lies on its grid.
        self._teacher_grid = source.parts.teacher.grid if source.parts.teacher else self._label_grid
        self._max_depth_m = config.model.depth.max_m
        self._columns = self._split.camera_columns(config.data.cameras)
        self._teacher_files = teacher_files

    def __call__(
        self, row: int, rng: np.random.Generator, stages: StageTimes, augmentation: PlainAugmentation | None = None
    ) -> PlainSample:
        """Reads a sample and books its stages; `rng` changes the colours."""
        resized = stages.run("resize", self._resize, stages.run("decode", self._decode, row))
        indices = None
        if augmentation is not None:
            matrices = [augmentation.images[camera] for camera, _ in self._present(row)]
            resized = stages.run("warp", lambda: [warp_image(*pair) for pair in zip(resized, matrices, strict=True)])
            indices = stages.run("index", self._indices, augmentation)
        distorted = stages.run("distort", lambda: [_distort(image.astype(np.float32), rng) for image in resized])
        images = stages.run("normalize", lambda: [_normalize(image) for image in distorted])
        depth_m = stages.run("depth", self._depth, row, augmentation) if self._has_lidar else None
        labels = stages.run("labels", self._labels, row, indices)
        teacher = stages.run("teacher", self._teacher, row, indices) if self._teacher_files else None
        return PlainSample(resized, *stages.run("pack", _pack, images, depth_m, labels, teacher))

    def _present(self, row: int) -> list[tuple[int, int]]:
        """Position and column of the cameras that the sample has."""
        return [(n, c) for n, c in enumerate(self._columns) if self._split.camera_file[row, c]]

    def _decode(self, row: int) -> list[np.ndarray]:
        """uint8 RGB [H, W, 3] as recorded."""
        images = []
        for _, column in self._present(row):
            path = self._split.root / self._split.camera_file[row, column].decode()
            # In full and in OpenCV's order of colours, as is common: reduced decoding is one of the things compared.
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise DataError(f"cannot read {path} of sample {self._split.tokens[row]}; copy the file again")
            images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return images

    def _resize(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """uint8 [H, W, 3] at network-input size."""
        return [np.asarray(Image.fromarray(i).resize(self._size, Image.Resampling.BILINEAR)) for i in images]

    def _indices(self, augmentation: PlainAugmentation) -> dict[VoxelGrid, PlainVoxelIndex]:
        """By grid of the files: labels and teacher mostly lie on the same."""
        matrix = augmentation.augmented_from_grid
        return {grid: PlainVoxelIndex(grid, self._grid, matrix) for grid in {self._label_grid, self._teacher_grid}}

    def _depth(self, row: int, augmentation: PlainAugmentation | None) -> np.ndarray:
        """float32 [N, H/16, W/16] nearest depth per block."""
        points = np.fromfile(self._split.root / self._split.lidar_file[row].decode(), np.float32).reshape(-1, 5)
        width, height = self._size
        maps = np.zeros((len(self._columns), height // STRIDE, width // STRIDE), np.float32)
        homogeneous = np.concatenate([points[:, :3], np.ones_like(points[:, :1])], axis=1)
        # A camera at a time, each with all points, as published loaders do.
        for camera, column in self._present(row):
            in_cam = homogeneous @ self._split.cam_from_lidar[row, column].T
            depth = in_cam[:, 2]
            in_image = in_cam[:, :3] @ self._split.pixel_from_cam[row, column].T
            pixels = in_image[:, :2] / np.maximum(in_image[:, 2:], 1e-5)
            pixels *= np.array(self._size) / self._split.camera_size[row, column]
            if augmentation is not None:
                matrix = augmentation.images[camera].astype(np.float32)
                pixels = pixels @ matrix[:2, :2].T + matrix[:2, 2]
            inside = np.all((pixels >= 0) & (pixels < self._size), axis=1)
            inside &= (depth >= MIN_DEPTH_M) & (depth < self._max_depth_m)
            blocks, depth = (pixels[inside] // STRIDE).astype(np.int64), depth[inside]
            order = np.argsort(-depth, kind="stable")  # the nearest is written last
            maps[camera, blocks[order, 1], blocks[order, 0]] = depth[order]
        return maps

    def _labels(self, row: int, indices: dict[VoxelGrid, PlainVoxelIndex] | None) -> np.ndarray:
        """int64 [X, Y, Z] classes, as cross-entropy in PyTorch takes them."""
        path = label_path(self._split, row, self._label_set, self._data)
        labels = self._label_set.read(path)[0].astype(np.int64)
        return labels if indices is None else indices[self._label_grid].move(labels, IGNORE)

    def _teacher(self, row: int, indices: dict[VoxelGrid, PlainVoxelIndex] | None) -> np.ndarray:
        """float32 [K, X, Y, Z] scores."""
        with np.load(self._teacher_files[row]) as file:
            teacher = file["logits"].astype(np.float32)
        return teacher if indices is None else indices[self._teacher_grid].move(teacher, 0.0)


def _normalize(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3 h w"]:
    """Around zero, channels first."""
    return ((image - IMAGE_MEAN) / IMAGE_STD).transpose(2, 0, 1)


def _pack(images: list[np.ndarray], *others: np.ndarray | None) -> list[Any]:
    """Contiguous arrays with a batch axis, [1, ...]."""
    return [None if x is None else np.ascontiguousarray(x)[None] for x in (np.stack(images), *others)]


def write_dense_teacher(source: SampleSource, rows: list[int], folder: Path) -> dict[int, Path]:
    """Teacher files as the teacher's dump script writes them: float16 [K, X, Y, Z], deflated; by row."""
    teacher, files = source.parts.teacher, {}
    assert teacher is not None
    for row in rows:
        token = source.split.tokens[row]
        log_probs = dense_log_probs(source.open(row).teacher(), teacher.grid.shape)
        files[row] = folder / f"{token}.npz"
        # Probabilities, as GaussianFormer-2 gives them.
        np.savez_compressed(files[row], logits=np.moveaxis(np.exp(log_probs).astype(np.float16), -1, 0))
    return files


def _distort(image: Float[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    """One image; each change with probability one half (SSD, Liu et al. 2016)."""
    contrast_first = rng.uniform() < 0.5
    if rng.uniform() < 0.5:
        image += np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    if contrast_first and rng.uniform() < 0.5:
        image *= np.float32(rng.uniform(*CONTRAST))
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees, saturation in 0..1
    if rng.uniform() < 0.5:
        hsv[..., 1] *= np.float32(rng.uniform(*SATURATION))
    if rng.uniform() < 0.5:
        hsv[..., 0] += np.float32(rng.uniform(-HUE_DEG, HUE_DEG))
        hsv[..., 0][hsv[..., 0] > 360] -= 360
        hsv[..., 0][hsv[..., 0] < 0] += 360
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and rng.uniform() < 0.5:
        image *= np.float32(rng.uniform(*CONTRAST))
    return image[..., rng.permutation(3)] if rng.uniform() < 0.5 else image
