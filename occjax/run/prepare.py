"""The synthetic city on disk before a run starts: the world itself, then its teacher in our format."""

import logging
import os
from pathlib import Path

from occjax.config import Config
from occjax.convert.dump.convert import convert_dump
from occjax.convert.dump.options import DumpOptions
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.label_sets import label_set
from occjax.storage import locked
from occjax.synthetic import generate
from occjax.system.processes import from_first
from occjax.targets.files import MANIFEST_NAME
from occjax.targets.folder import read_manifest

_log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Generates the synthetic world and converts its teacher dump, unless that is done or not asked for.

    The first process of a run does it for all; runs that start at once do it one after the other, and find it done.

    Only a folder below data.root is filled with that teacher, and none that holds another one, such as a student's
    predictions.

    Raises:
      UserError: data.root holds another world than the configuration describes, a file of the dump or the manifest in
        data.teacher_dir is damaged, or data.teacher_dir is neither below data.root nor a folder of teacher files.
    """
    if not config.data.synthetic.enabled:
        return
    root = Path(config.data.root)

    def alone() -> None:
        # Beside the root, which has to be empty.
        with locked(root.with_name(f".{root.name}.lock"), wait=True):
            _prepare(config, root)

    from_first(alone)


def _prepare(config: Config, root: Path) -> None:
    data = config.data
    # Before the teacher, which is dumped with the city.
    generate(root, data.synthetic, progress=_log.info)
    if not data.teacher_dir:
        return
    grid = label_set(data.labels).grid
    dump, folder = root / "teacher_dump", Path(data.teacher_dir)
    if (folder / MANIFEST_NAME).exists():
        manifest = read_manifest(folder)
        found = (manifest.get("source"), manifest.get("form"), VoxelGrid.from_dict(manifest["grid"]))
        # Somebody's own teacher, a student's predictions perhaps, and not ours to overwrite.
        if found != (dump.name, "compact", grid):
            _log.info("teacher: %s as it is, made from %s", folder, found[0])
            return
    # The records hold the teacher already.
    elif data.records_dir:
        return
    # A folder elsewhere was named by somebody who expects something in it: a word mistyped would fill the disk.
    elif root.resolve() not in folder.resolve().parents:
        raise DataError(
            f"data.teacher_dir {folder} has no {MANIFEST_NAME}; name a folder of teacher files, or one below {root} to "
            f"have it made from the simulated teacher, such as --config.data.teacher_dir={root / 'teacher'}"
        )
    _log.info("teacher: %s, made from %s", folder, dump)
    result = convert_dump(
        dump,
        folder,
        data_config=data,
        # What an earlier run left is kept, for a first run may have been stopped here.
        options=DumpOptions(skip_existing=True, output_grid=None if grid == DumpOptions().grid else grid),
        workers=len(os.sched_getaffinity(0)),
        progress=_log.info,
    )
    if result.failures:
        path, reason = result.failures[0]
        raise DataError(
            f"{len(result.failures)} files of the synthetic teacher dump are damaged, first {path}: {reason}; delete "
            f"{root} to generate it again"
        )
