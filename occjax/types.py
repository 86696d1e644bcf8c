"""Containers that travel from the loader to the loss; fields only, no behaviour.

Dimension key, used everywhere: B batch, N cameras, H W rows and columns, D depth bins, C channels, X Y Z grid axes
(x and y in the grid's own frame), K classes, M teacher voxels, P points. Channels are last. The loader yields one
element without B; batching adds it. Absent optional parts are None.
"""

from typing import Any, NamedTuple

# Any, because one container serves both: a union would ask every reader which one it is.
# numpy in the loader, jax on the device.
Array = Any


class CameraRig(NamedTuple):
    """Where each camera looks, and what augmentation did to the images and to the grid.

    Attributes:
      pixel_from_cam: float32 [B, N, 3, 3] intrinsics of the image as recorded.
      cam_from_grid: float32 [B, N, 4, 4] rigid, from the grid's frame at keyframe time to the camera at its own
        timestamp.
      input_from_pixel: float32 [B, N, 3, 3] homogeneous 2D affine, recorded pixels to network-input pixels.
      augmented_from_grid: float32 [B, 3, 3] BEV augmentation of points in the grid's frame.
      is_present: bool [B, N]; a missing camera has a black image and contributes nothing.
    """

    pixel_from_cam: Array
    cam_from_grid: Array
    input_from_pixel: Array
    augmented_from_grid: Array
    is_present: Array


class VoxelLabels(NamedTuple):
    """Ground truth on the model's grid.

    Attributes:
      semantics: uint8 [B, X, Y, Z] class; 255 where nothing is known (outside after BEV augmentation).
      camera_mask: bool [B, X, Y, Z] voxels that the cameras see (Occ3D), or None where the label set has none.
    """

    semantics: Array
    camera_mask: Array | None


class VoxelCodes(NamedTuple):
    """What the teacher says about voxels: codes of those that are not plainly free, one row each.

    All other voxels share `background`. Shapes are static per folder. Batched, every field gains a leading B.

    Attributes:
      index: int32 [M] flat index of each active voxel, ascending; padded with the number of voxels of the grid.
      free: uint8 [M] free codes of `occjax.targets.codec`.
      levels: uint8 [M, 9] level codes.
      background: float32 [K] log-probabilities of every voxel that is not listed.
      valid: uint8 [ceil(X*Y*Z/8)] bits of the voxels that the teacher knows (numpy.packbits), or None = all.
    """

    index: Array
    free: Array
    levels: Array
    background: Array
    valid: Array | None


class BevCodes(NamedTuple):
    """A BEV map of the teacher's own, in the same codes.

    Attributes:
      free: uint8 [X, Y] free codes.
      levels: uint8 [X, Y, 9] level codes.
      valid: uint8 [ceil(X*Y/8)] bits of the cells that the map knows, or None = all.
    """

    free: Array
    levels: Array
    valid: Array | None


class TeacherTargets(NamedTuple):
    """What the teacher says about one sample; at least one of the two.

    Attributes:
      voxels: codes of the voxels, or None where the teacher has BEV maps only.
      bev: codes of a BEV map of its own, or None: the column rule gives it from the voxels.
    """

    voxels: VoxelCodes | None
    bev: BevCodes | None


class Batch(NamedTuple):
    """One batch as the loader yields it.

    Attributes:
      images: uint8 [B, N, H, W, 3] RGB at network-input size, after image augmentation.
      rig: geometry of those images.
      depth_m: float32 [B, N, H/16, W/16] nearest LiDAR depth per feature pixel along the optical axis; 0 = no point.
        None where depth is not supervised.
      labels: ground truth, or None (prediction only).
      teacher: what the teacher says, or None.
      sample_index: int32 [B] row of the sample in the index of its split.
      is_valid: bool [B]; false for the padding that completes the last evaluation batch.
    """

    images: Array
    rig: CameraRig
    depth_m: Array | None
    labels: VoxelLabels | None
    teacher: TeacherTargets | None
    sample_index: Array
    is_valid: Array


class Predictions(NamedTuple):
    """What the student returns.

    Attributes:
      voxel_logits: float32 [B, X, Y, Z, K].
      depth_logits: float32 [B, N, H/16, W/16, D].
      lifted_features: [B, X', Y', C] BEV features after the view transform, in cells of
        model.view_transform.cell_voxels by as many columns.
      bev_features: [B, X', Y', C] BEV features that the head reads.
      bev_coverage: float32 [B] share of all those X' · Y' cells, near and far, that at least one lifted
        point of a present camera falls into.
    """

    voxel_logits: Array
    depth_logits: Array
    lifted_features: Array
    bev_features: Array
    bev_coverage: Array
