"""Prediction of one's own images: a run, a calibration and images in, occupancy out (`--mode=predict`)."""

import argparse
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from occjax.classes import IGNORE
from occjax.config import Config
from occjax.drawing.page import MOST_FRAMES, write_page
from occjax.drawing.page_frame import FrameVolume, SceneFrame, pack_frame
from occjax.drawing.sheet import draw_sample
from occjax.drawing.top_view import cost_view
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.predict.calibration import read_calibration
from occjax.predict.cost_map import Robot, band_of, cost_map, seen_columns
from occjax.predict.frames import frames_in_words, frames_of_folder
from occjax.predict.images import NetworkInput
from occjax.predict.load import load_predictor
from occjax.predict.occupancy import Occupancy
from occjax.predict.rig import Rig
from occjax.predict.ros_bag import ros_bag, stamp_of
from occjax.predict.temperature import NO_TEMPERATURE
from occjax.storage import writing
from occjax.system.progress import Progress

_log = logging.getLogger(__name__)
_GAP_M = 1.0


def predict_workdir(
    config: Config,
    workdir: Path,
    *,
    calibration: Path,
    images: str,
    output: Path,
    best: bool = False,
    most_frames: int = MOST_FRAMES,
    robot: Robot | None = None,
    bag: Path | None = None,
) -> list[Path]:
    """Predicts a frame, or a folder of them: an .npz for each, and a page of the first ones; a single one is drawn too.

    Args:
      config: of the run.
      workdir: the run.
      calibration: YAML, see `occjax.predict.calibration`.
      images: "CAM_FRONT=front.jpg,CAM_LEFT=left.jpg", or a folder `<camera>/<time>.jpg`.
      output: folder for what is written.
      best: the checkpoint with the best validation mIoU.
      most_frames: how many the page shows, the first ones.
      robot: whose cost map is written for each frame, `<frame>_cost_map.npz`, and drawn.
      bag: folder of a ROS bag with points, and with cost maps where there is a robot; frames have the times of their
        names, images that were named one by one 0.

    Returns:
      the files that were written, and the bag.

    Raises:
      UserError: calibration, images and run do not fit, or nothing can be written.
    """
    # Before the network, which takes longer to load.
    if most_frames < 1:
        raise UserError(f"--frames must be at least 1, not {most_frames}")
    rig = read_calibration(calibration).in_frame(config.grid.frame)
    if robot is not None:
        band_of(robot, config.grid.build())
    is_folder = "=" not in images
    frames = list(frames_of_folder(images, rig.cameras)) if is_folder else [_named_images(images)]
    names = [next(iter(frame.values())).stem for frame in frames] if is_folder else ["prediction"]
    stamps_ns = [stamp_of(name) if bag and is_folder else 0 for name in names]
    if is_folder:
        _log.info("%s: %s", images, frames_in_words(images, frames, rig.cameras))
    written, packed = [], []
    progress = Progress("predicting", len(frames), _log.info, unit="frames", untimed=1)
    if bag is not None and bag.resolve() in (output.resolve(), *output.resolve().parents):
        raise UserError(f"the bag is a folder of its own, and {output} is it or lies in it; choose another --ros-bag")
    try:
        with contextlib.ExitStack() as opened:
            # What it wants and lacks is told now.
            open_bag = opened.enter_context(ros_bag(bag, config.grid.frame)) if bag else None
            predictor = load_predictor(config, workdir, best=best, rig=rig)
            _log.info(
                "probabilities are %s",
                "the network's own; --mode=eval --fit-temperature calibrates them"
                if predictor.temperature == NO_TEMPERATURE
                else f"calibrated by temperature {predictor.temperature:.3f}",
            )
            is_single = len(frames) == 1
            if is_single:
                alone = predictor.prepare(frames[0], rig)
                predicted = [(alone, predictor.predict(alone))]
            else:
                predicted = predictor.stream(frames, rig).with_inputs()
            for name, frame, stamp_ns, (given, occupancy) in zip(names, frames, stamps_ns, predicted, strict=True):
                written.append(occupancy.save(output / f"{name}.npz"))
                costs = None if robot is None else cost_map(occupancy, rig, robot, cameras=frame)
                if costs is not None:
                    written.append(costs.save(output / f"{name}_cost_map.npz"))
                    picture = cost_view(costs.values, predictor.grid)
                    written.append(_write_picture(output / f"{name}_cost_map.png", picture))
                if open_bag is not None:
                    open_bag.write(occupancy, costs, stamp_ns)
                if len(packed) < most_frames:
                    shown = _shown(name, given, rig, occupancy, frame)
                    packed.append(pack_frame(shown, rig.cameras, predictor.grid.frame))
                    if is_single:
                        sheet = _sheet(shown, rig, predictor.grid, title=str(workdir))
                        written.append(_write_picture(output / f"{name}.png", sheet))
                progress.advance()
        page = output / "scene.html"
        written.append(write_page(page, packed, predictor.grid, title=str(workdir), camera_names=rig.cameras))
        return [*written, bag] if bag else written
    except OSError as error:
        where = error.filename or output
        raise UserError(f"cannot write to {where}: {error.strerror}; choose another folder") from error


def predict_by_options(config: Config, workdir: Path, options: argparse.Namespace) -> list[Path]:
    """`predict_workdir` by what the command line says."""
    robot = None
    if not options.robot_height and (options.robot_radius or options.inflation_radius):
        raise UserError("cost maps are of the heights that a robot fills; name them with --robot-height=LOW,HIGH")
    if options.robot_height:
        robot = Robot(options.robot_height, options.robot_radius or 0.0, options.inflation_radius or 0.0)
    return predict_workdir(
        config,
        workdir,
        calibration=Path(options.calibration),
        images=options.images,
        output=Path(options.output),
        best=bool(options.best),
        most_frames=MOST_FRAMES if options.frames is None else options.frames,
        robot=robot,
        bag=Path(options.ros_bag) if options.ros_bag else None,
    )


def _shown(title: str, images: NetworkInput, rig: Rig, occupancy: Occupancy, cameras: Iterable[str]) -> SceneFrame:
    """A frame for the page and the picture: images as they were taken, voxels where one of its cameras looks."""
    assert rig.sizes is not None
    seen = seen_columns(rig, occupancy.grid, np.ones(occupancy.grid.shape[2], bool), cameras)
    # Gaps between neighbouring cameras, narrow at the car, would look like ditches.
    around = 2 * round(_GAP_M / occupancy.grid.voxel_size_m) + 1
    near = cv2.dilate(seen.astype(np.uint8), np.ones((around, around), np.uint8)) == 1
    # What it believes of the rest is in the files, but nobody should take it for seen.
    classes = np.where(near[..., None], occupancy.classes, np.uint8(IGNORE))
    aspects = (rig.sizes[:, 0] / rig.sizes[:, 1]).tolist()
    prediction = FrameVolume(classes, occupancy.confidence())
    return SceneFrame(title, np.asarray(images.images[0]), prediction, aspects=aspects)


def _sheet(frame: SceneFrame, rig: Rig, grid: VoxelGrid, *, title: str) -> np.ndarray:
    classes = frame.prediction.classes
    return draw_sample(frame.images, rig.cameras, None, classes, None, grid, title=title, aspects=frame.aspects)


def _write_picture(path: Path, picture: np.ndarray) -> Path:
    with writing(path, suffix=".png") as scratch:
        Image.fromarray(picture).save(scratch)
    return path


def _named_images(images: str) -> dict[str, Path]:
    """Image files of one frame, by camera."""
    pairs = [pair.partition("=") for pair in images.split(",") if pair]
    wrong = [name for name, _, path in pairs if not name or not path]
    if wrong:
        raise UserError(f"--images is CAMERA=FILE,CAMERA=FILE or a folder <camera>/<time>.jpg; found {images!r}")
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise UserError(f"--images names a camera twice; found {images!r}")
    return {name: Path(path) for name, _, path in pairs}
