"""The synthetic city on disk before a run starts: the world itself, then its teacher in our format."""

import logging
import os
from pathlib import Path

from occjax.config import Config
from occjax.data.errors import DataError
from occjax.data.synthetic import generate
from occjax.grid import OCC3D_GRID
from occjax.teacher_dump.convert import convert_dump
from occjax.teacher_dump.options import DumpOptions

_log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Generates the synthetic world and converts its teacher dump, unless that is done or not asked for.

    Raises:
      UserError: data.root holds another world than the configuration describes, or a file of the dump is damaged.
    """
    data = config.data
    if not data.synthetic.enabled:
        return
    root = Path(data.root)
    generate(root, data.synthetic, progress=_log.info)
    if not data.teacher_dir:
        return
    output_grid = OCC3D_GRID if data.labels == "occ3d" else None
    result = convert_dump(
        root / "teacher_dump",
        Path(data.teacher_dir),
        data_config=data,
        options=DumpOptions(skip_existing=True, output_grid=output_grid),
        workers=len(os.sched_getaffinity(0)),
        progress=_log.info,
    )
    if result.failures:
        path, reason = result.failures[0]
        raise DataError(
            f"{len(result.failures)} files of the synthetic teacher dump are damaged, first {path}: {reason}; delete "
            f"{root} to generate it again"
        )
