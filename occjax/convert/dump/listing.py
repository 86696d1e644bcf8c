"""Files of a dump and the samples that they belong to: by position, by sample index or by token."""

import re
from pathlib import Path
from typing import NamedTuple

from occjax.convert.dump.arrays import SUFFIXES, DumpError
from occjax.convert.dump.options import DumpOptions
from occjax.convert.dump.scores import holds_bev_map

# Folder of each kind that the dump script writes; the first one that exists is taken. Hard labels serve where there are
# no scores at all.
VOXEL_FOLDERS = ("occ3d_logits", "occ3d_prob", "3d_logits", "3d")
BEV_FOLDERS = ("bev_prob", "bev_logits")
HARD_VOXEL_FOLDERS, HARD_BEV_FOLDERS = ("occ3d_sem",), ("bev_sem",)
# What the dump script puts behind the id of a sample, by kind and type of what is inside.
_ENDING = re.compile(
    r"(_3d_logits_fp16|_3d_prob_fp16|_3d_prob_hard_onehot|_3d_logits|_3d_prob|_occ3d_logits|_occ3d_sem|_bev_prob_fp16"
    r"|_bev_prob|_bev_logits_fp16|_bev_logits|_bev_sem)$"
)
POSITION, SAMPLE_INDEX, TOKEN = "position", "sample_index", "token"


class DumpFile(NamedTuple):
    """One sample of a dump.

    Attributes:
      split: its split; empty until matched where a folder mixes the splits.
      id: what the file name says before its ending.
      voxels: file of voxel scores, or None.
      bev: file of a BEV map, or None.
    """

    split: str
    id: str
    voxels: Path | None
    bev: Path | None

    @property
    def path(self) -> Path:
        """The file that stands for the sample: of its voxels, or else of its map."""
        path = self.voxels or self.bev
        assert path is not None
        return path


class MatchedFile(NamedTuple):
    """A sample of a dump with its token."""

    token: str
    file: DumpFile


def _find_folder(source: Path, named: str, usual: tuple[str, ...]) -> Path | None:
    """The folder of one kind: the named one, else the first usual one under `source`, else None.

    Raises:
      DumpError: the named folder does not exist.
    """
    if named:
        folder = Path(named) if Path(named).is_dir() else source / named
        if not folder.is_dir():
            raise DumpError(f"dump folder {named} does not exist (looked in {source} too)")
        return folder
    return next((source / name for name in usual if (source / name).is_dir()), None)


def list_dump(source: Path, options: DumpOptions) -> list[DumpFile]:
    """All samples of a dump, in order of split and id.

    Args:
      source: the dump's folder: it holds one folder per kind, or the files of one kind.
      options: the splits to take; each is a folder inside the kind's folder. Without such folders the files are of the
        one split, or of several if their names are tokens. And what the folders and files are called.

    Raises:
      DumpError: nothing found, an id twice, or some samples have voxels and others only a BEV map.
    """
    if not source.is_dir():
        raise DumpError(f"dump folder {source} does not exist; give the folder that the dump script wrote")
    splits = options.splits
    voxels = _find_folder(source, options.dump_3d_dir, VOXEL_FOLDERS)
    bev = _find_folder(source, options.dump_bev_prob_dir, BEV_FOLDERS)
    if voxels is None and bev is None:
        # Hard labels are the poorer teacher: taken only where nothing softer lies beside them.
        voxels = _find_folder(source, "", HARD_VOXEL_FOLDERS)
        bev = _find_folder(source, "", HARD_BEV_FOLDERS) if voxels is None else None
    if voxels is None and bev is None:
        # Files of the folder itself: one of them is opened if its name does not say what they are.
        paths = [path for split in (*splits, "") for path in _files(source, split, splits)]
        voxels, bev = (None, source) if paths and _is_map(paths[0], options) else (source, None)
    found: list[DumpFile] = []
    for split in (*splits, ""):
        # Voxels and map of a sample go by one id, whatever their names end in.
        by_id: dict[str, list[Path | None]] = {}
        for kind, folder in enumerate((voxels, bev)):
            for path in _files(folder, split, splits):
                if kind == 0 and options.dump_3d_type and f"_{options.dump_3d_type}" not in path.stem:
                    continue
                pair = by_id.setdefault(_ENDING.sub("", path.stem), [None, None])
                if pair[kind] is not None:
                    raise DumpError(f"{pair[kind]} and {path} belong to one sample; say which with --dump-3d-type")
                pair[kind] = path
        found += [DumpFile(split, id, *pair) for id, pair in sorted(by_id.items())]
    if not found:
        raise DumpError(
            f"no {', '.join(SUFFIXES)} file of splits {', '.join(splits)} in {source}; it should hold "
            f"{VOXEL_FOLDERS[0]}/<split>/ or {BEV_FOLDERS[0]}/<split>/, or name the folders with --dump-3d-dir and "
            "--dump-bev-prob-dir"
        )
    # A folder of teacher files holds one kind, because training reads all of them alike.
    without = [file for file in found if file.voxels is None]
    if without and len(without) < len(found):
        raise DumpError(
            f"{len(without)} of {len(found)} samples have a BEV map but no voxels, first {without[0].bev}; dump them "
            "again, or convert voxels and maps into two folders"
        )
    return found


def _is_map(path: Path, options: DumpOptions) -> bool:
    ending = _ENDING.search(path.stem)
    return "_bev" in ending[1] if ending else holds_bev_map(path, options)


def _files(folder: Path | None, split: str, splits: tuple[str, ...]) -> list[Path]:
    if folder is None:
        return []
    # One folder per split is the dump script's way; a flat folder is somebody else's.
    if any((folder / name).is_dir() for name in splits):
        inside = folder / split if split else None
    else:
        inside = folder if split == (splits[0] if len(splits) == 1 else "") else None
    if inside is None or not inside.is_dir():
        return []
    return sorted(path for path in inside.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))


def match_files(
    files: list[DumpFile], orders: dict[str, list[str]], match: str
) -> tuple[list[MatchedFile], str, list[tuple[Path, str]]]:
    """Tokens of dump files.

    Args:
      files: of a dump.
      orders: sample tokens of each split in data set order.
      match: "auto", or how ids are meant: "position" (%06d_0), "sample_index" (%06d) or "token".

    Returns:
      The matched files, how they were matched, and (path, reason) of files that belong to no sample.

    Raises:
      DumpError: ids are of several kinds, of none, or the split has fewer samples than the dump has files.
    """
    tokens = {split: set(order) for split, order in orders.items()}
    known = set().union(*tokens.values())
    kind = match if match != "auto" else _kind_of_ids(files, known)
    pattern = re.compile(r"(\d{6,})_0" if kind == POSITION else r"(\d{6,})(?:_0)?")
    # Counts first: a position is a wrong sample, and a silent one, as soon as the lists differ.
    if kind != TOKEN:
        _check_counts(files, orders)
    matched, unmatched = [], []
    for file in files:
        split, token = file.split, None
        if kind == TOKEN:
            split = next((name for name in tokens if file.id in tokens[name] and split in ("", name)), "")
            token = file.id if split else None
        elif found := pattern.fullmatch(file.id):
            row = int(found[1])
            token = orders[split][row] if row < len(orders[split]) else None
        if token is None:
            where = f"split {file.split}" if file.split else f"splits {', '.join(orders)}"
            unmatched.append((file.path, f"id {file.id} is no {kind.replace('_', ' ')} of {where}"))
        else:
            matched.append(MatchedFile(token, file._replace(split=split)))
    return matched, kind, unmatched


def _check_counts(files: list[DumpFile], orders: dict[str, list[str]]) -> None:
    for split in dict.fromkeys(file.split for file in files):
        of_split = [file for file in files if file.split == split]
        if not split:
            first = of_split[0].path
            raise DumpError(
                f"{first.parent} has no folder per split but files numbered like {first.name}; say which split they "
                "are with --splits"
            )
        if len(of_split) > len(orders[split]):
            raise DumpError(
                f"split {split} has {len(orders[split])} samples but the dump has {len(of_split)} files: it was made "
                "from other tables, another split or several ranks; give the info pickle that it was made with "
                "(--infos)"
            )


def _kind_of_ids(files: list[DumpFile], known: set[str]) -> str:
    kinds = {
        TOKEN if file.id in known else POSITION if re.fullmatch(r"\d{6,}_0", file.id) else SAMPLE_INDEX
        for file in files
        if file.id in known or re.fullmatch(r"\d{6,}(_0)?", file.id)
    }
    if len(kinds) == 1:
        return kinds.pop()
    examples = ", ".join(file.id for file in files[:3])
    reason = "are of several kinds" if kinds else "are neither positions, sample indices nor tokens of the index"
    raise DumpError(
        f"the ids of the dump ({examples}, ...) {reason}; set --match, or --infos for another data set order"
    )
