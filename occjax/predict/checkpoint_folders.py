"""Folders of checkpoints: which are whole, and what is said of one that is damaged."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from occjax.errors import UserError

MARKER = "_CHECKPOINT_METADATA"  # what orbax writes last
# What the best checkpoint is the best of: earlier versions took the protocol's mean, "miou".
SCORE = "miou_present"


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable, of another model, or cannot be written."""


def newest_step(workdir: Path, *, best: bool = False) -> int | None:
    """Step of the newest whole checkpoint of a workdir (or of the best one), None where there is none."""
    return max(whole_steps(workdir / ("best" if best else "checkpoints")), default=None)


def whole_steps(folder: Path) -> list[int]:
    """Steps in a folder of checkpoints; folders that a copy or a save left incomplete are passed over."""
    return [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal() and (path / MARKER).is_file()]


@contextlib.contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Whatever is raised where files of the checkpoint in `path` are missing or damaged, as a CheckpointError."""
    try:
        yield
    except (CheckpointError, MemoryError, PermissionError, jax.errors.JaxRuntimeError):
        raise  # no fault of the files
    except Exception as error:  # orbax, tensorstore and their parsers have many ways to say it
        reason = " ".join(re.sub(r"\s+", " ", str(error)).split()) or type(error).__name__
        older = [step for step in whole_steps(path.parent) if step != int(path.name)]
        then = f"step {max(older)} is the next newest" if older else "it was the only one, and the run begins anew"
        raise CheckpointError(
            f"checkpoint {path} is damaged ({reason[:200]}); copy it again, or delete that folder and run the same "
            f"command: {then}"
        ) from error
