"""Storage: writing whole files or none, and what they were made with."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Those that a result can depend on.
_PACKAGES = ("occjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

_LOCK_ATTEMPTS = 100  # none but the first fails, except beside a holder that ends


def versions() -> dict[str, str]:
    """Package versions and the git revision, each where it can be had: what is nice to know never ends a run."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    with contextlib.suppress(OSError):  # there may be no git
        root, revision = (
            _git(*words) for words in (("rev-parse", "--show-toplevel"), ("describe", "--always", "--dirty"))
        )
        # Of this source tree alone: an environment may lie inside somebody's own repository.
        if root and revision and (Path(root) / "occjax").resolve() == Path(__file__).resolve().parent:
            found["git"] = revision
    return found


def _git(*words: str) -> str:
    """What git says about the folder of this file, empty where it says nothing."""
    command = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextlib.contextmanager
def writing(path: Path, *, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when all went well: a reader never sees half a file.

    It lies in the same folder, which is made if absent, under a hidden name that nobody else has: several processes,
    on hosts that may count them alike, can write the same file, and listings of whole files pass over what a killed one
    left.

    Args:
      path: the file.
      suffix: what the temporary name ends in, for writers that tell the format from it.

    Raises:
      OSError: the folder cannot be made, or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}{suffix}")
    try:
        yield scratch
        # Atomic within a file system, which the same folder guarantees.
        scratch.replace(path)
    except OSError as error:
        # Of a full disk the system does not say which file, and numpy does not say even that.
        error.filename = error.filename or str(path)
        raise
    finally:
        scratch.unlink(missing_ok=True)


def remove_abandoned(*folders: Path) -> None:
    """Removes what killed processes have left of files that they were `writing` in these folders.

    For folders that nobody else writes into meanwhile.
    """
    for path in (path for folder in folders for path in folder.glob(".*")):
        if re.fullmatch(r"\..+\.[0-9a-f]{16}\.\w+", path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock that the file `path` stands for; gives whether it is held, which it always is with `wait`.

    The system lets go of it when the process ends, however it ends; the file stays, unless its holder removes it. A
    folder that cannot be written or a file system without locks protects nobody and stops nobody.
    """
    is_free = True
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_LOCK_ATTEMPTS):
                # Whoever held it may have removed file and folder meanwhile: what is locked then is nobody's lock.
                with contextlib.suppress(FileNotFoundError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file = opened.enter_context(path.open("a"))
                    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        break
        except BlockingIOError:
            is_free = False
        except OSError:
            pass
        yield is_free


def write_json(path: Path, content: object) -> None:
    """Writes JSON for people, whole or not at all; raises OSError."""
    with writing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        # On the disk before it gets its name: a machine that goes down leaves an empty file otherwise.
        file.flush()
        os.fsync(file.fileno())
