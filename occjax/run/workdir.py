"""The folder of a run: the resolved configuration beside its checkpoints, and what it was made with."""

from pathlib import Path

from flax.traverse_util import flatten_dict

from occjax.config import Config
from occjax.run.initialisation import Initialisation, configured_initialisation
from occjax.run_config import WorkdirError, load_config, stored_fact, stored_initialisation
from occjax.storage import versions, write_json

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


def make_workdir(workdir: Path) -> None:
    """Makes the folder, unless it is there; raises WorkdirError where there can be none."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkdirError(f"cannot make the folder {workdir}: {error.strerror}; choose another --workdir") from error


def require_same_configuration(workdir: Path, config: Config) -> list[str]:
    """Checks that the run in `workdir`, if there is one, can be resumed with this configuration; writes nothing.

    A start that failed before its first checkpoint (a path mistyped, say) leaves it free.

    Returns:
      remarks about fields that changed and may change (training schedule, paths, workers).

    Raises:
      WorkdirError: it had another model, grid, data, augmentation or loss.
    """
    if not _is_run(workdir):
        return []
    before, now = _flat(load_config(workdir)), _flat(config)
    changed = {key: f"{key}: was {before[key]!r}, now {now[key]!r}" for key in now if before[key] != now[key]}
    fixed = [
        f"  {line}\n"
        for key, line in changed.items()
        if key.startswith(_FIXED_SECTIONS) and not key.startswith(_FREE_FIELDS)
    ]
    if fixed:
        # What people change most, and would think that it is free.
        counted = "; its position in the data is counted in batches" if "data.batch_size" in changed else ""
        raise WorkdirError(
            f"{workdir} holds a run with another configuration:\n{''.join(fixed)}"
            f"resume it with the values it was started with, or choose a new --workdir{counted}"
        )
    return list(changed.values())


def open_workdir(
    workdir: Path, config: Config, imported: Initialisation | None = None, *, data: dict | None = None
) -> list[str]:
    """Makes `workdir` the home of a run with this configuration, or checks that it already is.

    config.json says what the weights started from: found out by the first start, once, and kept by those that resume.

    Args:
      workdir: folder, made if absent.
      config: of the run.
      imported: what the weights are of, where it is not what the configuration says.
      data: what tells its samples from others, where that is known.

    Returns:
      remarks, as `require_same_configuration`.

    Raises:
      WorkdirError: as `require_same_configuration`, and where there can be no folder.
      BackboneWeightsError: the run is new, and its file of backbone weights is absent.
    """
    make_workdir(workdir)
    remarks = require_same_configuration(workdir, config)
    if _is_run(workdir):
        initialisation = stored_initialisation(workdir)
    else:
        initialisation = (imported or configured_initialisation(config))._asdict()
    facts = {"initialisation": initialisation, "data": data or stored_fact(workdir, "data"), "versions": versions()}
    # After the comparison, which reads what it replaces.
    write_json(workdir / "config.json", {"config": config.to_dict(), **facts})
    return remarks


def _is_run(workdir: Path) -> bool:
    # Without a checkpoint there is nothing that another configuration could contradict.
    return (workdir / "config.json").exists() and any((workdir / "checkpoints").glob("[0-9]*"))


def _flat(config: Config) -> dict[str, object]:
    """Plain values by dotted path; sequences as tuples, however somebody's file wrote them."""
    flat = flatten_dict(config.to_dict(), sep=".")
    return {path: tuple(value) if isinstance(value, list) else value for path, value in flat.items()}
