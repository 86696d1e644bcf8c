"""Checkpoints of state, averaged weights and data position, written together, restored onto any number of devices."""

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from occjax.predict.checkpoint_folders import SCORE, CheckpointError, named_damage, whole_steps
from occjax.predict.stored_weights import keeps_ema_apart, placed, require_fit, shapes, stored_tree
from occjax.system.processes import from_first
from occjax.train.checkpoint_failures import (
    forget_damaged_scores,
    keep_orbax_quiet,
    remove_half_written,
    require_room,
    write_failure,
)
from occjax.train.state import TrainState


class Checkpoints:
    """The checkpoints of one workdir.

    `<workdir>/checkpoints/<step>` holds the last ones, `<workdir>/best/<step>` the one with the best validation. Each
    has three items: `ema` (the averaged student, all that prediction reads), `state` (the rest of a TrainState) and
    `data` (JSON: where the loader stands).

    A save returns once the state has been read off the devices, whose buffers the next step writes over, and goes on in
    a thread; `wait` is for whoever says that it was saved. It appears in the folder when it is whole, and a later call
    raises what went wrong with it. In a run of several processes each of them makes every call.

    Checkpoints of an earlier version, whose averages lie inside `state`, are read as well.
    """

    def __init__(self, workdir: Path, *, keep: int = 3):
        """Opens the folders, made if absent; what killed runs left half-written there is removed.

        Args:
          workdir: of the run.
          keep: how many of the last checkpoints stay.

        Raises:
          CheckpointError: one of them is damaged, and which.
        """
        self._workdir = workdir
        self._saving: tuple[int, int] | None = None  # step and bytes of what is being written
        keep_orbax_quiet()
        from_first(lambda: (remove_half_written(workdir), forget_damaged_scores(workdir)))
        options = functools.partial(ocp.CheckpointManagerOptions, create=True, enable_async_checkpointing=True)
        best = options(max_to_keep=1, best_fn=lambda metrics: metrics.get(SCORE, -math.inf), best_mode="max")
        self._last = self._manager("checkpoints", options(max_to_keep=keep))
        self._best = self._manager("best", best)

    def _manager(self, name: str, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        path = (self._workdir / name).resolve()  # orbax refuses a relative one
        # The manager asks each when it was written, and would not say which could not tell.
        for step in whole_steps(path):
            with named_damage(self._workdir / name / str(step)):
                _ = ocp.path.step.standard_name_format().find_step(path, step).commit_timestamp
        return ocp.CheckpointManager(path, options=options, item_names=("state", "ema", "data"))

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint, or None; complete after `wait`."""
        return self._last.latest_step()

    def path(self, step: int, *, best: bool = False) -> Path:
        """Folder of the checkpoint of `step`."""
        return self._workdir / ("best" if best else "checkpoints") / str(step)

    def save(self, step: int, state: TrainState, data_state: dict) -> None:
        """Begins to write the checkpoint of `step`, unless it is there already.

        Raises:
          CheckpointError: there is no room for it, or it or the one before cannot be written.
        """
        # A run that is stopped on a saving step, or resumed at its last one, asks twice.
        if self._last.latest_step() != step:
            self._begin(step, state)
            with self._named_failure():
                self._last.save(step, args=_save_args(state, data_state), force=True)

    def _begin(self, step: int, state: TrainState) -> None:
        """Waits for what is being written, and asks whether there is room for more."""
        self.wait()
        self._saving = step, sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        from_first(lambda: require_room(self._workdir, *self._saving))

    def wait(self) -> None:
        """Returns once everything is written that `save` and `save_best` began.

        Raises:
          CheckpointError: something could not be written.
        """
        with self._named_failure():
            self._last.wait_until_finished()
            self._best.wait_until_finished()

    def check(self) -> None:
        """Raises CheckpointError if a save has failed meanwhile; waits for nothing."""
        with self._named_failure():
            self._last.check_for_errors()

    @contextlib.contextmanager
    def _named_failure(self) -> Iterator[None]:
        try:
            yield
        # tensorstore has ValueError for a full disk.
        except (ValueError, OSError, RuntimeError) as error:
            raise write_failure(self._workdir, self._saving, error) from error

    def save_best(self, step: int, state: TrainState, data_state: dict, score: float) -> bool:
        """Keeps this state as the best if `score` beats the best so far; returns whether it is the best, once written.

        NaN is never the best. A checkpoint of `step` that is there already, of a run that was killed after it, is
        replaced by a better one; so is one that was scored otherwise, by an earlier version.

        Raises:
          CheckpointError: there is no room for it, or it cannot be written.
        """
        if math.isnan(score):
            return False
        scores = {s: (self._best.metrics(s) or {}).get(SCORE, math.nan) for s in self._best.all_steps()}
        better = [s for s, found in scores.items() if found >= score]  # which is true of no NaN
        if better:
            return step in better
        self._begin(step, state)
        with self._named_failure():
            # What orbax would refuse to write again, or, with a NaN, could take for the best.
            for stale, found in scores.items():
                if stale == step or math.isnan(found):
                    self._best.delete(stale)
            saved = self._best.save(step, args=_save_args(state, data_state), metrics={SCORE: score}, force=True)
        # The log line of a validation says that both are on the disk.
        self.wait()
        return saved

    def restore(self, abstract_state: TrainState, mesh: Mesh) -> tuple[TrainState, dict]:
        """The newest checkpoint's state (whole on each device of `mesh`) and data position.

        Raises:
          CheckpointError: there is no such checkpoint, or it does not fit the model.
        """
        step = self.last_step
        if step is None:
            raise CheckpointError(f"no checkpoint in {self._workdir}; train first, or name another --workdir")
        # Always against a target: without one, orbax gives integer keys back as strings and any shape as it lies.
        targets = {"state": abstract_state._asdict()}
        if keeps_ema_apart(self.path(step)):
            targets["ema"] = targets["state"].pop("ema")
        args = {item: ocp.args.StandardRestore(placed(tree, mesh)) for item, tree in targets.items()}
        with named_damage(self.path(step)):
            stored = {item: stored_tree(self.path(step) / item) for item in targets}
            require_fit(self.path(step), shapes(stored), shapes(targets))
            items = self._last.restore(step, args=ocp.args.Composite(**args, data=ocp.args.JsonRestore()))
            if not isinstance(items["data"], dict):
                raise ValueError("its data position is no object")
        trees = items["state"] | {item: items[item] for item in targets if item != "state"}
        return abstract_state._replace(**trees), items["data"]

    def close(self) -> None:
        """Ends what is being written, and the threads that orbax starts for each folder.

        Raises:
          CheckpointError: something could not be written.
        """
        with self._named_failure():
            self._last.close()
            self._best.close()


def _save_args(state: TrainState, data_state: dict[str, Any]) -> ocp.args.Composite:
    # The average apart from the optimizer's moments, which are twice its size and no use to a prediction.
    trees = state._asdict()
    return ocp.args.Composite(
        ema=ocp.args.StandardSave(trees.pop("ema")),
        state=ocp.args.StandardSave(trees),
        data=ocp.args.JsonSave(data_state),
    )
