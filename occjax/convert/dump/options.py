"""Options of the converter, under the dump script's names wherever it has one; most are options of its command line."""

import dataclasses
from typing import Literal

from occjax.classes import FREE, NUM_CLASSES
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.option_fields import option
from occjax.convert.dump.surface import SurfaceOptions
from occjax.grid import SURROUNDOCC_GRID, VoxelGrid


@dataclasses.dataclass(frozen=True)
class DumpOptions:
    """How a dump is read and what is made of it; the other fields say it in their options' help.

    Attributes:
      splits: splits to convert.
      grid: grid that the dump lies on.
      infos: info pickle per split; empty = the index's own order.
      output_grid: grid to resample to; None = the dump's own.
      num_classes, free_id: of the dump's class axis; teacher files hold these classes, free last.
      dump_3d_type: takes only the files named so, where a folder has both; empty = all. Those written are named so too.
      voxel_kind: what the voxel scores are, where whoever wrote them says so; empty = told from the numbers.
      dump_bev_prob_dir, bev_prob_key: used where there are no voxels.
      surface: what is written of the dump surface besides, and how BEV maps are turned, those that are read too.
    """

    splits: tuple[str, ...] = ("train", "val")
    grid: VoxelGrid = SURROUNDOCC_GRID
    infos: tuple[tuple[str, str], ...] = ()
    output_grid: VoxelGrid | None = None
    form: Literal["compact", "dense"] = option("compact", "compact is for training, 40 times smaller")
    match: Literal["auto", "position", "sample_index", "token"] = option(
        "auto",
        "what file names count or name: %%06d_0 positions in the split, six-digit indices, sample tokens; auto tells "
        "from the names",
    )
    num_classes: int = option(NUM_CLASSES, "free included")
    free_id: int = option(FREE, "class of free space")
    dump_3d_dir: str = option(
        "",
        "folder of the voxel scores; default: found in --input. With --weights: asks for occ3d_logits, in this folder",
    )
    dump_3d_type: Literal["", "logits", "prob"] = option("", "files named so only, and what those written are named")
    dump_3d_key: str = option("", "array in each file; default: found")
    dump_bev_prob_dir: str = option(
        "", "folder of the BEV maps; default: found in --input. With --weights: asks for bev_prob, in this folder"
    )
    bev_prob_key: str = option("", "array in each file; default: found")
    max_samples: int = option(-1, "per split; -1 = all")
    skip_existing: bool = option(False, "go on where a run stopped (default: with --weights)")
    voxel_kind: str = ""
    surface: SurfaceOptions = dataclasses.field(default_factory=SurfaceOptions)

    def __post_init__(self):
        if self.num_classes != NUM_CLASSES:
            raise DumpError(
                f"--num-classes must be {NUM_CLASSES}, the classes of both label sets, not {self.num_classes}; map "
                "other classes to these before"
            )
        if not 0 <= self.free_id < self.num_classes:
            raise DumpError(f"--free-id must be a class 0 to {self.num_classes - 1}, not {self.free_id}")
