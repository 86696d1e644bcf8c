"""Start of a training run: all that can refuse it, before anything is learnt and before anything is written."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from jax.sharding import Mesh

from occjax.config import Config
from occjax.data.index import Index, load_index
from occjax.errors import UserError
from occjax.predict.checkpoint_folders import newest_step
from occjax.run.evaluate import has_labels
from occjax.run.initialisation import configured_initialisation, said_of
from occjax.run.only_run import only_run
from occjax.run.workdir import open_workdir, require_same_configuration
from occjax.run_config import WorkdirError, stored_fact, stored_initialisation
from occjax.system.mesh import check_batch_size
from occjax.system.processes import after_first, from_first

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def begun(config: Config, workdir: Path, mesh: Mesh, *, allow_other_data: bool) -> Iterator[Index]:
    """Context in which `workdir` is the home of this run, new or resumed, and of no other; gives the index of its data.

    Raises:
      As `occjax.run.train.train`.
    """
    with contextlib.ExitStack() as held:

        def open_alone() -> int | None:
            held.enter_context(only_run(workdir))
            for remark in require_same_configuration(workdir, config):
                _log.warning("configuration changed since the run began: %s", remark)
            step = newest_step(workdir)
            if step is None:  # before the tables are read: the file it starts from may be absent
                configured_initialisation(config)
            return step

        step = from_first(open_alone)
        check_batch_size(config.data.batch_size, config.train.accumulate_steps, mesh, is_resumed=step is not None)
        index = after_first(lambda: load_index(config.data, fallback_dir=workdir))
        # Now rather than hours later, at the first validation.
        has_labels(config, index.split(config.data.val_split), required=True)
        total = total_steps(config, len(index.split(config.data.train_split)))
        if step is not None and step > total:
            raise WorkdirError(
                f"the run in {workdir} is at step {step}, beyond the {total} of this configuration; set "
                f"--config.train.steps={step} or more, choose another --workdir, or evaluate it as it is: "
                f"--mode=eval --workdir={workdir}"
            )
        data = data_identity(config, index)
        from_first(lambda: _require_same_data(workdir, data, allow_other_data))
        # Last, when nothing refuses the run any more.
        from_first(lambda: open_workdir(workdir, config, data=data))
        _log.info("the student starts from %s", said_of(stored_initialisation(workdir)))
        yield index


def total_steps(config: Config, samples: int) -> int:
    """Steps of a run over `samples` training samples; raises UserError where that is none."""
    total = config.train.steps or config.train.epochs * samples // config.data.batch_size
    if total < 1:
        raise UserError(
            f"train.epochs={config.train.epochs} over {samples} samples in batches of {config.data.batch_size} makes "
            "no step; set --config.train.steps"
        )
    return total


def data_identity(config: Config, index: Index) -> dict[str, dict]:
    """What tells the samples that a run learns from and is validated by from others, as config.json holds it."""

    def identity(name: str) -> dict:
        tokens = index.split(name).tokens
        return {"split": name, "samples": len(tokens), "sha256": hashlib.sha256("\n".join(tokens).encode()).hexdigest()}

    return {"training": identity(config.data.train_split), "validation": identity(config.data.val_split)}


def _require_same_data(workdir: Path, now: dict[str, dict], allow_other: bool) -> None:
    """Raises WorkdirError where a run that has a checkpoint would go on with other samples."""
    before = (stored_fact(workdir, "data") or {}) if newest_step(workdir) is not None else {}
    changed = [
        f"{what}, split {now[what]['split']}: {then.get('samples')} samples then, {now[what]['samples']} others now"
        for what in now
        if isinstance(then := before.get(what), dict) and then != now[what]
    ]
    if changed and not allow_other:
        raise WorkdirError(
            f"{workdir} holds a run on other data ({'; '.join(changed)}): set data.root, data.splits_file and the "
            "splits to those that it began with, choose another --workdir, or go on with these by --allow-other-data"
        )
    for line in changed:
        _log.warning("the run goes on with other data: %s", line)
