"""The folder of a run: the resolved configuration beside its checkpoints, and what it was made with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flax.traverse_util import flatten_dict

from occjax.config import Config
from occjax.run.initialisation import Initialisation, configured_initialisation
from occjax.run_config import WorkdirError, load_config, stored_initialisation
from occjax.storage import locked, versions, write_json

# Sections whose change would make a resumed run another run.
_FIXED_SECTIONS = ("grid.", "data.", "augment.", "model.", "loss.")
# Fields of those sections that say where things lie and how fast they come, not what is computed.
_FREE_FIELDS = (
    "data.root",
    "data.labels_dir",
    "data.teacher_dir",
    "data.records_dir",
    "data.on_error",
    "data.max_skipped",
    "data.index_dir",
    "data.splits_file",
    "data.workers",
    "data.prefetch",
    "data.synthetic",
    "model.backbone.weights",
)


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Context in which no other process can train in `workdir`, which is made if absent.

    Raises:
      WorkdirError: another one does, or there can be no folder.
    """
    _make(workdir)
    with locked(workdir / ".lock") as is_ours:
        if not is_ours:
            raise WorkdirError(
                f"another process trains in {workdir}; stop it, or wait for its end, or choose another --workdir"
            )
        yield


def _make(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"cannot make the folder {workdir}: {error.strerror}; choose another --workdir") from error


def open_workdir(workdir: Path, config: Config, imported: Initialisation | None = None) -> list[str]:
    """Makes `workdir` the home of a run with this configuration, or checks that it already is.

    A start that failed before its first checkpoint (a path mistyped, say) leaves it free. config.json says what the
    weights started from: found out by the first start, once, and kept by those that resume it.

    Args:
      workdir: folder, made if absent.
      config: of the run.
      imported: what the weights are of, where it is not what the configuration says.

    Returns:
      remarks about fields that changed and may change (training schedule, paths, workers).

    Raises:
      WorkdirError: the run in `workdir` had another model, grid, data, augmentation or loss, or there can be no folder.
      BackboneWeightsError: the run is new, and its file of backbone weights is absent.
    """
    _make(workdir)
    path = workdir / "config.json"
    remarks = []
    # Without a checkpoint there is nothing that the new configuration could contradict.
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        initialisation = stored_initialisation(workdir)
        before, now = _flat(load_config(workdir)), _flat(config)
        changed = {key: f"{key}: was {before[key]!r}, now {now[key]!r}" for key in now if before[key] != now[key]}
        fixed = [
            f"  {line}\n"
            for key, line in changed.items()
            if key.startswith(_FIXED_SECTIONS) and not key.startswith(_FREE_FIELDS)
        ]
        if fixed:
            raise WorkdirError(
                f"{workdir} holds a run with another configuration:\n{''.join(fixed)}"
                "resume it with the values it was started with, or choose a new --workdir"
            )
        remarks = list(changed.values())
    else:
        initialisation = (imported or configured_initialisation(config))._asdict()
    # After the comparison, which reads what it replaces.
    write_json(path, {"config": config.to_dict(), "initialisation": initialisation, "versions": versions()})
    return remarks


def _flat(config: Config) -> dict[str, object]:
    """Plain values by dotted path; sequences as tuples, however somebody's file wrote them."""
    flat = flatten_dict(config.to_dict(), sep=".")
    return {path: tuple(value) if isinstance(value, list) else value for path, value in flat.items()}
