"""One sample from its parts: images, rig, depth, labels and teacher under the same augmentation."""

import numpy as np
from jaxtyping import Float, UInt8

from occjax.classes import IGNORE
from occjax.config import AugmentConfig, Config
from occjax.data.augment import augments_bev, plain_resize, sample_bev_augmentation, sample_image_augmentation
from occjax.data.lidar import STRIDE, depth_map
from occjax.data.parts import TeacherReader
from occjax.data.rig_checks import require_rig
from occjax.data.sources import SampleParts, SampleSource
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.grid_map import GridMap, make_grid_map
from occjax.label_sets import label_set
from occjax.pooling import pool_labels, pooling_factor, refined
from occjax.types import Batch, CameraRig, TeacherTargets, VoxelLabels


class SampleReader:
    """Reads the rows of a split as elements of `occjax.types.Batch` without the batch axis."""

    def __init__(self, config: Config, source: SampleSource, *, augment: AugmentConfig | None):
        """Checks everything that can be checked before the first file is opened.

        Args:
          config: input size, cameras, grid, label set, depth range.
          source: of the split to read; its parts are what the samples hold.
          augment: ranges of augmentation, or None for none.

        Raises:
          DataError: size, cameras, their intrinsics or label set are not what the data path can give.
          GridMismatchError: the model's grid is no aligned crop of the files' grids, nor their voxels pooled.
        """
        data = config.data
        if data.image_height % STRIDE or data.image_width % STRIDE or min(data.image_height, data.image_width) <= 0:
            raise DataError(
                f"height and width of the network input must be divisible by {STRIDE}, "
                f"not {data.image_height}×{data.image_width}; set data.image_height and data.image_width"
            )
        self._source, self._split, self._parts = source, source.split, source.parts
        self._columns = self._split.camera_columns(data.cameras)
        require_rig(self._split, data.cameras)
        self._height, self._width = data.image_height, data.image_width
        self._max_depth_m = config.model.depth.max_m
        self._grid = config.grid.build()
        self._cam_from_grid = self._split.cam_from_lidar if self._grid.frame == "lidar" else self._split.cam_from_ego
        self._augment = augment
        self._bev_augment = augment if augment is not None and augments_bev(augment) else None
        self._label_grid = label_set(data.labels).grid
        # Labels and teacher mostly lie on the same grid, and often on the model's: then nothing moves.
        self._file_grids = {self._label_grid} if self._parts.labels else set()
        self._file_grids |= {self._parts.teacher.grid} if self._parts.teacher else set()
        # Also where augmentation replaces them: a grid that does not fit is refused before the first file is opened.
        self._factors = {grid: pooling_factor(grid, self._grid) for grid in self._file_grids}
        maps = self._grid_maps(np.eye(3))
        self._crops = {grid: grid_map for grid, grid_map in maps.items() if grid != self._grid}

    def __call__(self, row: int, rng: np.random.Generator, *, is_valid: bool = True) -> Batch:
        """Sample `row`; every random choice comes from `rng`.

        Raises:
          SampleError: a file cannot be read; names it and the sample token.
        """
        parts = self._source.open(row)
        # Images draw first, then the grid: a resumed run has to draw in the same order.
        images, rig = self.read_images(parts, row, rng)
        augmented_from_grid, grid_maps = np.eye(3), self._crops
        if self._bev_augment is not None:
            augmented_from_grid = sample_bev_augmentation(rng, self._bev_augment)
            grid_maps = self._grid_maps(augmented_from_grid)
        return Batch(
            images=images,
            rig=rig._replace(augmented_from_grid=augmented_from_grid.astype(np.float32)),
            depth_m=self.read_depth(parts, row, rig) if self._parts.lidar else None,
            labels=self.read_labels(parts, grid_maps) if self._parts.labels else None,
            teacher=self.read_teacher(parts, grid_maps, self._parts.teacher) if self._parts.teacher else None,
            sample_index=np.int32(row),
            is_valid=np.bool_(is_valid),
        )

    def _grid_maps(self, augmented_from_grid: Float[np.ndarray, "3 3"]) -> dict[VoxelGrid, GridMap]:
        """By the files' grid, the maps to it from the model's, or from that one in voxels of the files' size."""
        # What is coarser is augmented before it is pooled: whole voxels of the file move.
        return {
            grid: make_grid_map(grid, refined(self._grid, factor), augmented_from_grid)
            for grid, factor in self._factors.items()
        }

    def read_images(
        self, parts: SampleParts, row: int, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "n h w 3"], CameraRig]:
        """Images at network-input size and their rig, which lacks the BEV augmentation; absent cameras are black."""
        count = len(self._columns)
        # Identities stand in for absent cameras: finite numbers that a mask can multiply away.
        images = np.empty((count, self._height, self._width, 3), np.uint8)
        pixel_from_cam = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
        input_from_pixel = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
        cam_from_grid = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
        is_present = np.zeros(count, bool)
        for camera, column in enumerate(self._columns):
            augmentation = np.eye(3)
            if self._augment is not None:
                # Drawn for absent cameras too, so that the others do not depend on what is missing.
                augmentation = sample_image_augmentation(rng, self._augment, width=self._width, height=self._height)
            if not self._split.camera_file[row, column]:
                images[camera] = 0
                continue
            size = self._split.camera_size[row, column]
            matrix = augmentation @ plain_resize(size, (self._width, self._height))
            parts.draw_image(self._split.cameras[column], matrix, images[camera])
            is_present[camera] = True
            input_from_pixel[camera] = matrix
            pixel_from_cam[camera] = self._split.pixel_from_cam[row, column]
            cam_from_grid[camera] = self._cam_from_grid[row, column]
        return images, CameraRig(pixel_from_cam, cam_from_grid, input_from_pixel, None, is_present)

    def read_depth(self, parts: SampleParts, row: int, rig: CameraRig) -> Float[np.ndarray, "n hf wf"]:
        """Depth maps in metres, seen as the images of `rig` are; 0 = no point."""
        return depth_map(
            parts.points(),
            # LiDAR points stay in their own frame whatever the model's grid; an absent column is masked.
            self._split.cam_from_lidar[row, self._columns],
            rig.pixel_from_cam,
            rig.input_from_pixel,
            rig.is_present,
            height=self._height,
            width=self._width,
            max_m=self._max_depth_m,
        )

    def read_labels(self, parts: SampleParts, grid_maps: dict[VoxelGrid, GridMap]) -> VoxelLabels:
        """Labels on the model's grid; `grid_maps` by the files' grid where they differ, see `_grid_maps`."""
        semantics, camera_mask = parts.labels()
        grid_map, factor = grid_maps.get(self._label_grid), self._factors[self._label_grid]
        if grid_map is None:
            return VoxelLabels(semantics, camera_mask)
        mask = None if camera_mask is None else grid_map.gather(camera_mask, False)
        semantics = grid_map.gather(semantics, IGNORE)
        return VoxelLabels(semantics, mask) if factor == 1 else VoxelLabels(*pool_labels(semantics, mask, factor))

    def read_teacher(
        self, parts: SampleParts, grid_maps: dict[VoxelGrid, GridMap], teacher: TeacherReader
    ) -> TeacherTargets:
        """Targets on the model's grid; see `read_labels`."""
        targets, grid_map = parts.teacher(), grid_maps.get(teacher.grid)
        return targets if grid_map is None else teacher.gather(targets, grid_map)
