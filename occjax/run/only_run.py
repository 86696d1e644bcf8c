"""Lock of a workdir: one training at a time, and nothing left of one that came to nothing."""

import contextlib
import datetime
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from occjax.predict.checkpoint_folders import newest_step
from occjax.run.workdir import make_workdir
from occjax.run_config import WorkdirError
from occjax.storage import locked, remove_abandoned


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Context in which no other process can train in `workdir`, which is made if absent.

    Where the run comes to an end with neither a checkpoint nor a line of log, what it has put there is removed again.

    Raises:
      WorkdirError: another one does, or there can be no folder.
    """
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    make_workdir(workdir)
    lock = workdir / ".lock"
    has_lock = lock.exists()
    with locked(lock) as is_ours:
        if not is_ours:
            raise WorkdirError(
                f"another process trains in {workdir}{_holder(lock)}; stop it, or wait for its end, or choose another "
                "--workdir"
            )
        # Now, when nobody else takes anything away.
        before = {path.name for path in workdir.iterdir() if has_lock or path != lock}
        # In the same file: another one of this name would be another lock.
        started = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        with contextlib.suppress(OSError):  # nice to know
            lock.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": started}))
        remove_abandoned(workdir)
        try:
            yield
        finally:
            if newest_step(workdir) is None and not _has_content(workdir / "log.jsonl"):
                _remove(workdir, before, made, last=lock)


def _holder(lock: Path) -> str:
    """Who holds a lock, in words; empty where it does not say."""
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        return f" (host {holder['host']}, process {holder['process']}, since {holder['started']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _remove(workdir: Path, before: set[str], made: list[Path], last: Path) -> None:
    """Removes what was not there `before`, the lock `last`, and then those of the folders `made` that are empty."""
    with contextlib.suppress(OSError):  # what cannot be removed stays
        # Without the lock the folder may be another run's, at once.
        for path in sorted(workdir.iterdir(), key=lambda path: path == last):
            if path.name not in before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in made:
            folder.rmdir()
