"""Options of the converter, under the dump script's names wherever it has one."""

import dataclasses

from occjax.classes import FREE, NUM_CLASSES
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.bev_maps import DEFAULT_PRIORITY_IDS, LOW_TO_HIGH, OVERWRITE
from occjax.grid import SURROUNDOCC_GRID, VoxelGrid


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """Maps and pictures to write besides the teacher files; an empty folder leaves a kind out.

    Attributes:
      dump_occ3d_dir: hard labels, uint8 [X, Y, Z].
      dump_bev_dir: semantic BEV maps, uint8 [X, Y].
      dump_bev_vis_dir: the same as PNG in the usual colours.
      dump_gt_bev_dir, dump_gt_bev_vis_dir: ground truth drawn the same way.
      dump_gt_bev_mask_vis_dir: PNG, white where the truth of a column counts.
      bev_sem_mode, bev_scan_direction, bev_priority_ids: see `bev_maps.bev_semantics`.
      vis_scale: pixels per cell.
    """

    dump_occ3d_dir: str = ""
    dump_bev_dir: str = ""
    dump_bev_vis_dir: str = ""
    dump_gt_bev_dir: str = ""
    dump_gt_bev_vis_dir: str = ""
    dump_gt_bev_mask_vis_dir: str = ""
    bev_sem_mode: str = OVERWRITE
    bev_scan_direction: str = LOW_TO_HIGH
    bev_priority_ids: tuple[int, ...] = DEFAULT_PRIORITY_IDS
    vis_scale: int = 4

    def __post_init__(self):
        if self.vis_scale < 1:
            raise DumpError(f"--vis-scale must be 1 or more pixels per cell, not {self.vis_scale}")
        if not all(0 <= class_id < NUM_CLASSES for class_id in self.bev_priority_ids):
            raise DumpError(f"--bev-priority-ids must be classes 0 to {NUM_CLASSES - 1}, not {self.bev_priority_ids}")

    @property
    def wants_truth(self) -> bool:
        """Whether anything is drawn from labels."""
        return bool(self.dump_gt_bev_dir or self.dump_gt_bev_vis_dir or self.dump_gt_bev_mask_vis_dir)

    @property
    def wants_any(self) -> bool:
        """Whether anything is written besides teacher files."""
        return bool(self.dump_occ3d_dir or self.dump_bev_dir or self.dump_bev_vis_dir) or self.wants_truth


@dataclasses.dataclass(frozen=True)
class DumpOptions:
    """How a dump is read and what is made of it.

    Attributes:
      splits: splits to convert.
      grid: grid that the dump lies on.
      num_classes, free_id: of the dump's class axis; teacher files hold these classes, free last.
      dump_3d_dir, dump_3d_type, dump_3d_key: folder, kind in the file name and array of the voxel scores.
      dump_bev_prob_dir, bev_prob_key: folder and array of the BEV maps; used where there are no voxels.
      bev_rotate_k, bev_flip_x, bev_flip_y: how the dump script turned its BEV maps: undone on reading, done on
        writing maps.
      match: "auto", "position", "sample_index" or "token".
      infos: info pickle per split; empty = the index's own order.
      form: "compact" or "dense".
      output_grid: grid to resample to; None = the dump's own.
      max_samples: first samples of each split only; -1 = all.
      skip_existing: keep what was converted before.
      maps: further outputs.
    """

    splits: tuple[str, ...] = ("train", "val")
    grid: VoxelGrid = SURROUNDOCC_GRID
    num_classes: int = NUM_CLASSES
    free_id: int = FREE
    dump_3d_dir: str = ""
    dump_3d_type: str = ""
    dump_3d_key: str = ""
    dump_bev_prob_dir: str = ""
    bev_prob_key: str = ""
    bev_rotate_k: int = 0
    bev_flip_x: bool = False
    bev_flip_y: bool = False
    match: str = "auto"
    infos: tuple[tuple[str, str], ...] = ()
    form: str = "compact"
    output_grid: VoxelGrid | None = None
    max_samples: int = -1
    skip_existing: bool = False
    maps: MapOptions = dataclasses.field(default_factory=MapOptions)

    def __post_init__(self):
        if self.num_classes != NUM_CLASSES:
            raise DumpError(
                f"--num-classes must be {NUM_CLASSES}, the classes of both label sets, not {self.num_classes}; map "
                "other classes to these before"
            )
        if not 0 <= self.free_id < self.num_classes:
            raise DumpError(f"--free-id must be a class 0 to {self.num_classes - 1}, not {self.free_id}")
