"""Load a trained student from its run's folder, or from an exported one: what `occjax.load` is."""

from pathlib import Path

import jax

from occjax.config import Config
from occjax.predict.export_folder import MANIFEST, MODELS
from occjax.predict.exported import ExportedPredictor
from occjax.predict.model_folder import WEIGHTS, read_model_folder
from occjax.predict.predictor import Predictor
from occjax.predict.rig import Rig
from occjax.predict.stored_weights import CheckpointError, restore
from occjax.run_config import load_config
from occjax.system.compiled_programs import keep_compiled_programs
from occjax.system.mesh import make_mesh


def load(path: str | Path, *, best: bool = False, rig: Rig | None = None) -> Predictor:
    """The predictor of a student, compiled and warm; compiled programs are kept on the disk for the next start.

    Args:
      path: workdir of the run, or what `--mode=export` wrote: a model folder, or
        StableHLO or ONNX, which are of one rig. Of several files of an export the path of one says
        which: "exported/model_int8.onnx".
      best: the checkpoint with the best validation mIoU in the place of the newest.
      rig: that stays as it is in the frames to come, which is faster (`Predictor.fix`); None = any rig with as many
        cameras as the student was trained with. What is not compiled yet is compiled when it comes.

    Raises:
      UserError: there is no run, no checkpoint, or one of another version.
    """
    return load_predictor(load_config(Path(path)), Path(path), best=best, rig=rig)


def load_predictor(config: Config, path: Path, *, best: bool = False, rig: Rig | None = None) -> Predictor:
    """As `load`, with the run's configuration as somebody has changed it."""
    keep_compiled_programs()
    if path.is_file() and path.name not in MODELS.values():
        raise CheckpointError(f"{path} is no network that was exported; to load its folder, name {path.parent}")
    is_model_folder = (path / WEIGHTS).is_file()
    networks = [name for name in MODELS.values() if (path / name).is_file()]
    if networks and not is_model_folder and not (path / MANIFEST).is_file():
        raise CheckpointError(f"{path} holds {', '.join(networks)}, but no {MANIFEST}: an export was cut; export again")
    is_network = path.is_file() or ((path / MANIFEST).is_file() and not is_model_folder)
    if best and (is_network or is_model_folder):
        raise CheckpointError(f"{path} is an exported model, which holds one set of weights; leave best out")
    if is_network:
        exported = ExportedPredictor(config, path)
        exported.warm_up(len(exported.cameras))
        return exported
    mesh = make_mesh(jax.local_devices()[:1])
    weights = read_model_folder(path, config, mesh) if is_model_folder else restore(config, path, mesh, best=best)
    predictor = Predictor(config, weights)
    if rig is None:
        predictor.warm_up(len(predictor.cameras))
    else:
        predictor.fix(rig)
    return predictor
