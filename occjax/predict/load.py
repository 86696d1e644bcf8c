"""Load a trained student from its run's folder: what `occjax.load` is."""

from pathlib import Path

import jax

from occjax.compiled_programs import keep_compiled_programs
from occjax.config import Config
from occjax.mesh import make_mesh
from occjax.predict.predictor import Predictor
from occjax.predict.rig import Rig
from occjax.predict.stored_weights import restore
from occjax.run_config import load_config


def load(path: str | Path, *, best: bool = False, rig: Rig | None = None) -> Predictor:
    """The predictor of a run, compiled and warm; compiled programs are kept on the disk for the next start.

    Args:
      path: workdir of the run.
      best: the checkpoint with the best validation mIoU in the place of the newest.
      rig: of the frames to come; None = one with as many cameras as the student was trained with. Another number of
        cameras is compiled when it comes.

    Raises:
      UserError: there is no run, no checkpoint, or one of another version.
    """
    return load_predictor(load_config(Path(path)), Path(path), best=best, rig=rig)


def load_predictor(config: Config, path: Path, *, best: bool = False, rig: Rig | None = None) -> Predictor:
    """As `load`, with the run's configuration as somebody has changed it."""
    keep_compiled_programs()
    predictor = Predictor(config, restore(config, path, make_mesh(jax.local_devices()[:1]), best=best))
    predictor.warm_up(len(rig.cameras if rig else predictor.cameras))
    return predictor
