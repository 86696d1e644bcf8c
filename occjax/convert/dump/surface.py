"""The dump surface as options: which kinds of files of GaussianFormer's dump to write, where, and how."""

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

from occjax.classes import NUM_CLASSES
from occjax.convert.dump.arrays import DumpError
from occjax.convert.dump.option_fields import option

# Of the dump script: what moves or is small goes before what it stands on.
DEFAULT_PRIORITY_IDS = (4, 10, 3, 9, 5, 6, 2, 7, 8, 1)


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
      folder_field: field of `SurfaceOptions` that may name its folder.
      needs_heights: a BEV map alone does not give it.
      needs_truth: it is drawn from labels.
    """

    folder_field: str
    needs_heights: bool = False
    needs_truth: bool = False


KINDS = {
    "occ3d_sem": Kind("dump_occ3d_dir", needs_heights=True),
    "bev_sem": Kind("dump_bev_dir"),
    "bev_vis": Kind("dump_bev_vis_dir"),
    "bev_prob": Kind("bev_prob_dir"),
    "occ3d_logits": Kind("occ3d_logits_dir", needs_heights=True),
    "gt_bev": Kind("dump_gt_bev_dir", needs_truth=True),
    "gt_bev_vis": Kind("dump_gt_bev_vis_dir", needs_truth=True),
    "gt_bev_mask_vis": Kind("dump_gt_bev_mask_vis_dir", needs_truth=True),
}


@dataclasses.dataclass(frozen=True)
class SurfaceOptions:
    """What is written of the dump surface; without a kind, nothing.

    `also` names kinds, which get a folder each in `also_dir`; an option of the dump script that names the folder of one
    kind asks for that kind too. For `bev_sem_mode`, `bev_scan_direction` and `bev_priority_ids` see
    `bev_maps.bev_semantics`.

    Attributes:
      bev_rotate_k, bev_flip_x, bev_flip_y: how BEV maps are turned: done on writing them, undone on reading them.
      bev_prob_dir, occ3d_logits_dir: folders of these kinds; the dump script's options name them where none is read.
    """

    also: tuple[str, ...] = option((), f"kinds to write, with commas between: {', '.join(KINDS)}")
    also_dir: str = option("", "folder for them: <kind>/<split>/<id>_…, and manifest.json")
    dump_occ3d_dir: str = option("", "asks for occ3d_sem, in this folder")
    dump_bev_dir: str = option("", "asks for bev_sem, in this folder")
    dump_bev_vis_dir: str = option("", "asks for bev_vis, in this folder")
    dump_gt_bev_dir: str = option("", "asks for gt_bev, in this folder")
    dump_gt_bev_vis_dir: str = option("", "asks for gt_bev_vis, in this folder")
    dump_gt_bev_mask_vis_dir: str = option("", "asks for gt_bev_mask_vis, in this folder")
    bev_prob_dir: str = ""
    occ3d_logits_dir: str = ""
    bev_sem_mode: Literal["overwrite", "priority"] = option(
        "overwrite",
        "which voxel of a column wins: the last of the scan, or the class that comes first in --bev-priority-ids",
    )
    bev_scan_direction: Literal["low2high", "high2low"] = option("low2high", "of a column, along z")
    bev_priority_ids: tuple[int, ...] = option(DEFAULT_PRIORITY_IDS, "most important first")
    vis_scale: int = option(4, "pixels a cell of the PNGs")
    bev_prob_type: Literal["logits", "prob"] = option("logits", "bev_prob as probabilities or their logarithms")
    bev_prob_format: Literal["npz", "npy"] = option("npz", "of bev_prob")
    bev_prob_occ_thresh: float = option(0.01, "columns of bev_prob that are less occupied than this are free")
    bev_prob_compress: bool = option(True, "deflates bev_prob")
    dump_3d_compress: bool = option(True, "deflates occ3d_logits")
    bev_rotate_k: int = option(0, "quarter turns of BEV maps")
    bev_flip_x: bool = option(False, "turn BEV maps round along x")
    bev_flip_y: bool = option(False, "turn BEV maps round along y")

    def __post_init__(self):
        unknown = [name for name in self.also if name not in KINDS]
        if unknown:
            raise DumpError(f"--also knows no {', '.join(unknown)}; the kinds are {', '.join(KINDS)}")
        if bool(self.also) != bool(self.also_dir):
            raise DumpError("--also says what to write and --also-dir where: give both, or neither")
        if self.vis_scale < 1:
            raise DumpError(f"--vis-scale must be 1 or more pixels per cell, not {self.vis_scale}")
        if not all(0 <= class_id < NUM_CLASSES for class_id in self.bev_priority_ids):
            raise DumpError(f"--bev-priority-ids must be classes 0 to {NUM_CLASSES - 1}, not {self.bev_priority_ids}")
        if not 0 <= self.bev_prob_occ_thresh <= 1:
            raise DumpError(f"--bev-prob-occ-thresh is a probability, 0 to 1, not {self.bev_prob_occ_thresh}")

    @property
    def folders(self) -> dict[str, Path]:
        """Folder of every kind that is written."""
        named = {name: getattr(self, kind.folder_field) for name, kind in KINDS.items()}
        return {
            name: Path(folder or f"{self.also_dir}/{name}")
            for name, folder in named.items()
            if folder or name in self.also
        }

    @property
    def needs_truth(self) -> bool:
        """Whether anything is drawn from labels."""
        return any(KINDS[name].needs_truth for name in self.folders)

    @property
    def needs_heights(self) -> list[str]:
        """The kinds among them that a BEV map alone does not give."""
        return [name for name in self.folders if KINDS[name].needs_heights]

    def content(self) -> dict:
        """The options that decide what the files hold, as JSON gives them back."""
        decided = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        places = {"also", "also_dir", *(kind.folder_field for kind in KINDS.values())}
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in decided.items()}
        return {name: value for name, value in plain.items() if name not in places}
