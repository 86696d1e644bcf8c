"""Failures of saving: what was left half-written, and full disks in a line that says what to do."""

import errno
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from occjax.predict.checkpoint_folders import MARKER, SCORE, CheckpointError, newest_step
from occjax.storage import write_json

_HALF_WRITTEN = "*.orbax-checkpoint-tmp*"
_log = logging.getLogger(__name__)


def remove_half_written(workdir: Path) -> None:
    """Removes what killed saves have left, and gives broken copies another name: they hold their step's place."""
    for folder in (workdir / "checkpoints", workdir / "best"):
        incomplete = [path for path in folder.glob("[0-9]*") if path.name.isdecimal() and not (path / MARKER).is_file()]
        for path in incomplete:
            _log.warning("checkpoint %s is incomplete (no %s): it is passed over", path, MARKER)
            if any(part.is_file() for part in path.rglob("*")):  # of a copy, which somebody may want to go on with
                path.rename(path.with_name(f"incomplete-{path.name}"))
        for path in (*incomplete, *folder.glob(_HALF_WRITTEN)):
            shutil.rmtree(path, ignore_errors=True)


def forget_damaged_scores(workdir: Path) -> None:
    """Empties the files of the best checkpoint's score that hold none: orbax would refuse the whole folder.

    The weights stay, until the next validation that is scored takes their place.
    """
    for path in (workdir / "best").glob("[0-9]*/metrics/metrics"):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            is_whole = isinstance(found, dict) and isinstance(found.get(SCORE, 0.0), float)
        except (ValueError, RecursionError):
            is_whole = False
        if not is_whole:
            _log.warning("%s is damaged: by what score %s was the best is not known any more", path, path.parents[1])
            write_json(path, {})


def require_room(workdir: Path, step: int, size: int) -> None:
    """Raises CheckpointError where a checkpoint of `size` bytes has no room."""
    if size > shutil.disk_usage(workdir).free:
        raise write_failure(workdir, (step, size), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def write_failure(workdir: Path, saving: tuple[int, int] | None, error: Exception) -> CheckpointError:
    """The error to raise where the checkpoint that is being saved, its step and bytes, cannot be written.

    What is half-written of it is removed.
    """
    for _ in range(20):  # of the writes that go on, some may still make a file
        half_written = [path for name in ("checkpoints", "best") for path in (workdir / name).glob(_HALF_WRITTEN)]
        for path in half_written:
            shutil.rmtree(path, ignore_errors=True)
        if not half_written:
            break
        time.sleep(0.05)
    found = newest_step(workdir)
    then = "it begins anew" if found is None else f"it goes on from step {found}"
    what = f"the checkpoint of step {saving[0]}, {_megabytes(saving[1])}," if saving else "a checkpoint"
    return CheckpointError(
        f"{what} cannot be written to {workdir}, where {_megabytes(shutil.disk_usage(workdir).free)} are free: "
        f"{_reason(error)}; make room there, then run the same command: {then}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _reason(error: Exception) -> str:
    """The system's words, which orbax and tensorstore bury in a page of their own."""
    text = " ".join(str(error).split())
    known = [os.strerror(number) for number in errno.errorcode]
    return next((words for words in known if words in text), text[:200])


def keep_orbax_quiet() -> None:
    """Has orbax not tell, a trace for each thread, what it raises as well.

    Writes of a save that failed go on, and would complain by the thousand that nobody waits for them any more.
    """
    logging.getLogger("absl").addFilter(_is_not_of_orbax)
    logging.getLogger("asyncio").addFilter(_is_no_orphan)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _unraisable(what: Any) -> None:
    # From tensorstore's own threads.
    if not (isinstance(what.exc_value, RuntimeError) and str(what.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(what)


def _is_no_orphan(record: logging.LogRecord) -> bool:
    return "was never retrieved" not in record.getMessage()
