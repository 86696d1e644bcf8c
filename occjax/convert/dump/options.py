"""Options of the converter, under the dump script's names wherever it has one; most are options of its command line."""

import argparse
import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from occjax.classes import FREE, NUM_CLASSES
from occjax.command_line import whole_numbers
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.bev_maps import DEFAULT_PRIORITY_IDS
from occjax.grid import SURROUNDOCC_GRID, VoxelGrid


def _option(default: Any, help: str) -> Any:
    """A field that is an option of the command line too, of its name and type."""
    return dataclasses.field(default=default, metadata={"help": help})


def add_options(group: argparse._ArgumentGroup, kind: type) -> None:
    """Adds an option for each field of a dataclass that was declared as one."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if "help" not in field.metadata:
            continue
        hint, default = hints[field.name], field.default
        extra: dict[str, Any] = {"type": hint}
        if hint is bool:
            extra = {"action": argparse.BooleanOptionalAction}
        elif get_origin(hint) is Literal:
            extra = {"choices": get_args(hint)}
        elif get_origin(hint) is tuple:  # shown as it is typed, and read as if it had been
            extra["type"] = whole_numbers
            default = ",".join(str(number) for number in getattr(kind, field.name))
        elif field.name.endswith("_dir"):
            extra["metavar"] = "DIR"
        name = f"--{field.name.replace('_', '-')}"
        group.add_argument(name, default=default, help=field.metadata["help"], **extra)


def from_options(kind: type, options: argparse.Namespace, **others: Any) -> Any:
    """A dataclass of these options, and of `others` where a field is not an option by itself."""
    named = [field.name for field in dataclasses.fields(kind) if "help" in field.metadata]
    return kind(**{name: getattr(options, name) for name in named}, **others)


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """Maps and pictures to write besides the teacher files; an empty folder leaves a kind out.

    Hard labels are uint8 [X, Y, Z], semantic BEV maps uint8 [X, Y]; the pictures of masks are white where the truth of
    a column counts. `bev_sem_mode`, `bev_scan_direction` and `bev_priority_ids`: see `bev_maps.bev_semantics`.
    """

    dump_occ3d_dir: str = _option("", "hard labels")
    dump_bev_dir: str = _option("", "semantic BEV maps")
    dump_bev_vis_dir: str = _option("", "the same as PNG")
    dump_gt_bev_dir: str = _option("", "ground truth as semantic BEV maps")
    dump_gt_bev_vis_dir: str = _option("", "the same as PNG")
    dump_gt_bev_mask_vis_dir: str = _option("", "PNG of the columns that count")
    bev_sem_mode: Literal["overwrite", "priority"] = _option(
        "overwrite",
        "which voxel of a column wins: the last of the scan, or the class that comes first in --bev-priority-ids",
    )
    bev_scan_direction: Literal["low2high", "high2low"] = _option("low2high", "of a column, along z")
    bev_priority_ids: tuple[int, ...] = _option(DEFAULT_PRIORITY_IDS, "most important first")
    vis_scale: int = _option(4, "pixels a cell of the PNGs")

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
    """How a dump is read and what is made of it; the other fields say it in their options' help.

    Attributes:
      splits: splits to convert.
      grid: grid that the dump lies on.
      infos: info pickle per split; empty = the index's own order.
      output_grid: grid to resample to; None = the dump's own.
      num_classes, free_id: of the dump's class axis; teacher files hold these classes, free last.
      dump_3d_type: takes only the files named so, where a folder has both; empty = all.
      dump_bev_prob_dir, bev_prob_key: used where there are no voxels.
      bev_rotate_k, bev_flip_x, bev_flip_y: how the dump script turned its BEV maps: undone on reading, done on
        writing maps.
      maps: further outputs.
    """

    splits: tuple[str, ...] = ("train", "val")
    grid: VoxelGrid = SURROUNDOCC_GRID
    infos: tuple[tuple[str, str], ...] = ()
    output_grid: VoxelGrid | None = None
    form: Literal["compact", "dense"] = _option("compact", "compact is for training, 40 times smaller")
    match: Literal["auto", "position", "sample_index", "token"] = _option(
        "auto",
        "what file names count or name: %%06d_0 positions in the split, six-digit indices, sample tokens; auto tells "
        "from the names",
    )
    num_classes: int = _option(NUM_CLASSES, "free included")
    free_id: int = _option(FREE, "class of free space")
    dump_3d_dir: str = _option("", "folder of the voxel scores; default: found in --input")
    dump_3d_type: Literal["", "logits", "prob"] = _option("", "files named so only")
    dump_3d_key: str = _option("", "array in each file; default: found")
    dump_bev_prob_dir: str = _option("", "folder of the BEV maps; default: found in --input")
    bev_prob_key: str = _option("", "array in each file; default: found")
    bev_rotate_k: int = _option(0, "quarter turns of BEV maps")
    bev_flip_x: bool = _option(False, "turn BEV maps round along x")
    bev_flip_y: bool = _option(False, "turn BEV maps round along y")
    max_samples: int = _option(-1, "per split; -1 = all")
    skip_existing: bool = _option(False, "go on where a run stopped")
    maps: MapOptions = dataclasses.field(default_factory=MapOptions)

    def __post_init__(self):
        if self.num_classes != NUM_CLASSES:
            raise DumpError(
                f"--num-classes must be {NUM_CLASSES}, the classes of both label sets, not {self.num_classes}; map "
                "other classes to these before"
            )
        if not 0 <= self.free_id < self.num_classes:
            raise DumpError(f"--free-id must be a class 0 to {self.num_classes - 1}, not {self.free_id}")
