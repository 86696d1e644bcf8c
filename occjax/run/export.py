"""Export of a run for others to use: a model folder, PyTorch weights (`--mode=export`)."""

from pathlib import Path

import jax
from safetensors.numpy import save_file

from occjax.config import Config
from occjax.convert.torch_weights import state_dict_of
from occjax.errors import UserError
from occjax.mesh import make_mesh
from occjax.predict.model_folder import write_model_folder
from occjax.predict.stored_weights import restore
from occjax.run.evaluations import full_evaluations
from occjax.run_config import stored_initialisation
from occjax.storage import writing

FORMATS = ("safetensors", "pytorch")


def export_workdir(
    config: Config, workdir: Path, output: Path, *, formats: tuple[str, ...], best: bool = False
) -> list[Path]:
    """Writes the student of a run into `output`, in each of `formats`.

    "safetensors" is a folder that `occjax.load` reads, with the scores of the newest evaluation of these weights;
    "pytorch" the state dict of the PyTorch original, `pytorch_model.safetensors`, for runs of its architecture.

    Returns:
      the files that were written.

    Raises:
      UserError: no checkpoint, a format that is not known or does not fit, or nothing can be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(f"--format is some of {', '.join(FORMATS)}, with commas between; not {','.join(unknown)}")
    weights = restore(config, workdir, make_mesh(jax.local_devices()[:1]), best=best)
    written = []
    try:
        if "pytorch" in formats:
            # Before anything is written: another architecture is refused.
            arrays = state_dict_of(config, weights.params, weights.batch_stats)
            path = output / "pytorch_model.safetensors"
            with writing(path) as scratch:
                save_file(arrays, scratch, metadata={"format": "pt"})
            written.append(path)
        if "safetensors" in formats:
            scores = [
                evaluation.results
                for evaluation in full_evaluations(workdir)
                if evaluation.step == weights.step and evaluation.setting.weights == config.eval.weights
            ]
            written += write_model_folder(
                output,
                config,
                weights,
                initialisation=stored_initialisation(workdir),
                metrics=scores[-1] if scores else None,
            )
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}; choose another --output") from error
    return written
