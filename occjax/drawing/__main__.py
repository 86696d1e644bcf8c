"""Picture of a file of predictions, labels or a teacher, without a model and without a display.

    python -m occjax.drawing gts/scene-0003/TOKEN/labels.npz --output=street.png
    python -m occjax.drawing predictions/TOKEN.npz --truth=surroundocc/samples/LIDAR_FILE.npy --output=page.png
    python -m occjax.drawing data/teacher/TOKEN.npz --truth=surroundocc/samples/LIDAR_FILE.npy --output=teacher.png
    python -m occjax.drawing crop.npy --grid=surroundocc --lower-m=-16,-16,-3 --output=crop.png

Reads what `python -m occjax.metrics` reads, teacher files, and the files of every label set. Where a prediction does
not name its grid, --grid must, and --lower-m where it is a crop; what lies on a crop is compared with that crop of the
truth.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from occjax.classes import FREE, IGNORE
from occjax.drawing.sheet import draw_sample
from occjax.errors import DataError, UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS, LabelSet
from occjax.metrics.confusion import require_shape
from occjax.metrics.prediction_files import read_prediction
from occjax.storage import writing
from occjax.system.command_line import Parser, status
from occjax.targets.files import CompactTeacher, compact_from_dense, read_teacher
from occjax.targets.moving import dense_log_probs

# A page without cameras; the size of no image says nothing.
_NO_IMAGES = np.zeros((0, 9, 16, 3), np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Parses, draws, writes; returns the exit code."""
    parser = Parser("python -m occjax.drawing", __doc__)
    parser.add_argument("file", type=Path, help=".npz or .npy of classes [X, Y, Z], a label file or a teacher file")
    parser.add_argument("--truth", type=Path, help="label file to draw beside it, with a map of errors")
    parser.add_argument("--grid", choices=list(LABEL_SETS), help="label set of files that do not say it")
    parser.add_argument(
        "--lower-m", type=_corner, metavar="X,Y,Z", help="lower corner of the file's crop of --grid, metres"
    )
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    options = parser.parse_args(arguments)
    if options.lower_m and not options.grid:
        parser.error(f"--lower-m names a crop of a grid; say of which: --grid={' or --grid='.join(LABEL_SETS)}")
    return status(lambda: _write(options))


def _write(options: argparse.Namespace) -> int:
    path = options.output
    if path.suffix != ".png":
        raise UserError(f"a picture is written as .png, not {path.name!r}; say --output=page.png")
    page = _draw(options.file, options.truth, options.grid and LABEL_SETS[options.grid], options.lower_m)
    try:
        with writing(path) as scratch:
            Image.fromarray(page).save(scratch, format="PNG")
    except OSError as error:
        raise UserError(
            f"cannot write into folder {path.parent} ({error.strerror}); name a folder that you may write to with "
            "--output"
        ) from error
    sys.stdout.write(f"wrote {path}\n")
    return 0


def _corner(text: str) -> tuple[float, ...]:
    try:
        corner = tuple(float(part) for part in text.split(","))
    except ValueError:
        corner = ()
    if len(corner) != 3:
        raise argparse.ArgumentTypeError(f"must be three numbers with commas between, such as -16,-16,-3, not {text!r}")
    return corner


def _draw(
    file: Path, truth_file: Path | None, named: LabelSet | None, lower_m: tuple[float, float, float] | None
) -> np.ndarray:
    """The page, uint8 RGB [rows, columns, 3]."""
    caption = "prediction"
    if teacher := _read_teacher(file):
        (prediction, grid), labels, caption = teacher, None, "teacher"
    else:
        prediction, grid, labels = _read(file, named, lower_m)
    require_shape(grid, **{str(file): prediction})
    truth = counted = None
    # A label file by itself is no prediction of anything.
    caption = "labels" if truth_file is None and labels else caption
    if truth_file is not None:
        truth, truth_grid, truth_labels = _read(truth_file, named)
        require_shape(truth_grid, **{str(truth_file): truth})
        # A label file may be finer than the prediction, as the student's grid may be coarser.
        truth = truth_labels.on(grid, (truth, None))[0] if truth_labels else truth[truth_grid.crop_slices(grid)]
        if truth_labels:
            counted = truth_labels.counted(truth)
    return draw_sample(_NO_IMAGES, (), truth, prediction, None, grid, title=file.name, caption=caption, counted=counted)


def _read_teacher(path: Path) -> tuple[np.ndarray, VoxelGrid] | None:
    """Likeliest classes uint8 [X, Y, Z] of a teacher file, 255 where it knows nothing, and its grid; else None."""
    _require_file(path)
    try:
        found = read_teacher(path)
    except (DataError, OSError):  # of another kind, or damaged, which reading it as that says below
        return None
    compact = found if isinstance(found, CompactTeacher) else compact_from_dense(found)
    voxels = compact.codes.voxels
    if voxels is None:
        raise UserError(f"{path} holds a BEV map of a teacher and no voxels; name a file of voxels to draw")
    classes = dense_log_probs(compact.codes, compact.grid.shape).argmax(-1).astype(np.uint8)
    if voxels.valid is not None:
        known = np.unpackbits(voxels.valid, count=classes.size).view(bool).reshape(classes.shape)
        classes[~known] = IGNORE
    return classes, compact.grid


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no file {path}; name one that exists")


def _read(
    path: Path, named: LabelSet | None, lower_m: tuple[float, float, float] | None = None
) -> tuple[np.ndarray, VoxelGrid, LabelSet | None]:
    """Classes uint8 [X, Y, Z], their grid, and the label set of a label file; UserError where nobody names the grid."""
    _require_file(path)
    # What a label set can read is one of its files; the one that is named goes first, as formats may be alike.
    for labels in [named, *LABEL_SETS.values()] if named else LABEL_SETS.values():
        try:
            return labels.read(path)[0], labels.grid, labels
        except (DataError, OSError):  # what cannot be opened at all, reading it as a prediction names below
            continue
    classes, grid = read_prediction(path)
    if grid is None and named is not None:
        grid = named.grid
        if lower_m:
            x, y, z = classes.shape
            crop = dataclasses.replace(grid, lower_m=lower_m, shape=(x, y, z))
            grid.crop_slices(crop)  # raises where it is none
            grid = crop
        elif classes.shape != grid.shape:
            raise UserError(
                f"{path} holds {classes.shape} voxels, the grid of {named.name} has {grid.shape}; expected shape "
                f"{grid.shape}, or the crop's lower corner with --lower-m=X,Y,Z"
            )
    if grid is None:
        raise UserError(f"{path} does not name its grid; say --grid={' or --grid='.join(LABEL_SETS)}")
    if classes.min() < 0 or FREE < classes.max() != IGNORE:
        raise UserError(f"{path} must hold classes 0 to {FREE}, found {classes.min()} to {classes.max()}")
    return classes.astype(np.uint8), grid, None


if __name__ == "__main__":
    sys.exit(main())
