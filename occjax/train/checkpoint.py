"""Checkpoints of state and data position, written together and restored onto any number of devices."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from occjax.errors import UserError
from occjax.train.mesh import replicated
from occjax.train.state import TrainState


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable, or of another model."""


class Checkpoints:
    """The checkpoints of one workdir.

    `<workdir>/checkpoints/<step>` holds the last ones, `<workdir>/best/<step>` the one with the highest validation
    mIoU. Each has two items: `state` (a TrainState) and `data` (JSON: where the loader stands). Saves are complete
    when the call returns: the state's buffers are donated to the next step, and a killed run must find what the log
    says was saved.
    """

    def __init__(self, workdir: Path, *, keep: int = 3):
        self._workdir = workdir
        self._last = self._manager("checkpoints", ocp.CheckpointManagerOptions(max_to_keep=keep, create=True))
        self._best = self._manager(
            "best",
            ocp.CheckpointManagerOptions(
                max_to_keep=1, create=True, best_fn=lambda metrics: metrics["miou"], best_mode="max"
            ),
        )

    def _manager(self, name: str, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        options.enable_async_checkpointing = False
        path = (self._workdir / name).resolve()
        return ocp.CheckpointManager(path, options=options, item_names=("state", "data"))

    @property
    def last_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._last.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._best.best_step()

    def path(self, step: int, *, best: bool = False) -> Path:
        return self._workdir / ("best" if best else "checkpoints") / str(step)

    def save(self, step: int, state: TrainState, data_state: dict) -> None:
        """Writes the checkpoint of `step` unless it is there already."""
        if self._last.latest_step() != step:
            self._last.save(step, args=_save_args(state, data_state), force=True)

    def save_best(self, step: int, state: TrainState, data_state: dict, miou: float) -> bool:
        """Keeps this state as the best if `miou` beats the best so far; returns whether it did."""
        best = self._best.best_step()
        if best is not None and self._best.metrics(best)["miou"] >= miou:
            return False
        return self._best.save(step, args=_save_args(state, data_state), metrics={"miou": miou}, force=True)

    def restore(self, abstract_state: TrainState, mesh: Mesh, *, step: int | None = None, best: bool = False):
        """The state (whole on each device of `mesh`) and the data position of `step`, by default the newest.

        Raises:
          CheckpointError: there is no such checkpoint, or it does not fit the model.
        """
        manager = self._best if best else self._last
        step = (manager.best_step() if best else manager.latest_step()) if step is None else step
        if step is None or step not in manager.all_steps():
            raise CheckpointError(
                f"no checkpoint {'' if step is None else f'of step {step} '}in {self._workdir}; found steps "
                f"{sorted(manager.all_steps())}; train first, or name another --workdir"
            )
        sharding = replicated(mesh)
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract_state)
        try:
            items = manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise CheckpointError(
                f"checkpoint {self.path(step, best=best)} does not fit the configured model: {error}; "
                "use the configuration that the run was trained with (<workdir>/config.json)"
            ) from error
        return items["state"], items["data"]

    def close(self) -> None:
        self._last.close()
        self._best.close()


def _save_args(state: TrainState, data_state: dict[str, Any]) -> ocp.args.Composite:
    return ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data_state))
