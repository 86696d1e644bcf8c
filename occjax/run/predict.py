"""Prediction of one's own images: a run, a calibration and images in, occupancy out (`--mode=predict`)."""

from pathlib import Path

import numpy as np
from PIL import Image

from occjax.config import Config
from occjax.drawing.sheet import draw_sample
from occjax.errors import UserError
from occjax.predict.calibration import read_calibration
from occjax.predict.frames import frames_of_folder
from occjax.predict.load import load_predictor
from occjax.storage import writing


def predict_workdir(
    config: Config, workdir: Path, *, calibration: Path, images: str, output: Path, best: bool = False
) -> list[Path]:
    """Predicts a frame, or a folder of them, and writes an .npz for each; a single one is drawn too.

    Args:
      config: of the run.
      workdir: the run.
      calibration: YAML, see `occjax.predict.calibration`.
      images: "CAM_FRONT=front.jpg,CAM_LEFT=left.jpg", or a folder `<camera>/<time>.jpg`.
      output: folder for what is written.
      best: the checkpoint with the best validation mIoU.

    Returns:
      the files that were written.

    Raises:
      UserError: calibration, images and run do not fit, or nothing can be written.
    """
    # Before the network, which takes longer to load.
    rig = read_calibration(calibration)
    frames = _frames(images, rig.cameras)
    predictor = load_predictor(config, workdir, best=best, rig=rig)
    written = []
    try:
        if len(frames) > 1:
            names = [next(iter(frame.values())).stem for frame in frames]
            for name, occupancy in zip(names, predictor.stream(frames, rig), strict=True):
                written.append(occupancy.save(output / f"{name}.npz"))
            return written
        frame = predictor.prepare(frames[0], rig)
        occupancy = predictor.predict(frame)
        written.append(occupancy.save(output / "prediction.npz"))
        sheet = draw_sample(
            np.asarray(frame.images[0]), rig.cameras, None, occupancy.classes, None, predictor.grid, title=str(workdir)
        )
        with writing(output / "prediction.png", suffix=".png") as scratch:
            Image.fromarray(sheet).save(scratch)
        return [*written, output / "prediction.png"]
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}; choose another --output") from error


def _frames(images: str, cameras: tuple[str, ...]) -> list[dict[str, Path]]:
    """Image files of each frame, by camera."""
    if "=" not in images:
        return list(frames_of_folder(images, cameras))
    pairs = [pair.partition("=") for pair in images.split(",") if pair]
    wrong = [name for name, _, path in pairs if not name or not path]
    if wrong:
        raise UserError(f"--images is CAMERA=FILE,CAMERA=FILE or a folder <camera>/<time>.jpg; found {images!r}")
    return [{name: Path(path) for name, _, path in pairs}]
