"""Checks of a configuration, which has to hold together: every rule on its values, and the remedy for each."""

import math
from operator import attrgetter
from typing import get_args

from occjax.config import Config, closed_sets
from occjax.config_rules import range_problems
from occjax.errors import UserError
from occjax.grid import GridMismatchError, VoxelGrid
from occjax.label_sets import LABEL_SETS
from occjax.pooling import pooling_factor


def require_sound(config: Config) -> None:
    """Raises UserError with all the problems of a configuration, if it has any."""
    found = problems(config)
    if found:
        raise UserError("the configuration does not hold together:\n" + "\n".join(f"  {p}" for p in found))


def problems(config: Config) -> list[str]:
    """Everything that is wrong with the values, each as rule, value and remedy; empty when all is well."""
    # All at once: whoever waits in a queue for a GPU has one try.
    found = []

    def require(holds: bool, message: str) -> None:
        if not holds:
            found.append(message)

    try:
        grid = config.grid.build()
    # Without a grid there is nothing to hold the labels against.
    except ValueError as error:
        found.append(f"grid: {error}")
    else:
        labels = LABEL_SETS.get(config.data.labels)
        cell = max(1, config.model.view_transform.cell_voxels)
        require(
            grid.shape[0] % cell == grid.shape[1] % cell == 0,
            f"model.view_transform.cell_voxels={cell} does not divide the {grid.shape[0]} × {grid.shape[1]} columns of "
            "the grid; set 1, or another grid.shape",
        )
        of_labels = labels.grid if labels else grid
        require(
            grid.frame == of_labels.frame,
            f"data.labels={config.data.labels} lie in the {of_labels.frame} frame but grid.frame={grid.frame}; set "
            f"that label set's grid, or a crop of it, with {_grid_flags(of_labels)}, or use the other label set",
        )
        if grid.frame == of_labels.frame:
            try:
                pooling_factor(of_labels, grid)
            except GridMismatchError as error:
                found.append(f"grid: {error}; that of {config.data.labels} is {_grid_flags(of_labels)}")
    # The overrides take any text, so that this is the one place that knows.
    accepted = {path: get_args(kind) for path, kind in closed_sets().items()} | {"data.labels": tuple(LABEL_SETS)}
    for path, values in accepted.items():
        value = attrgetter(path)(config)
        require(value in values, f"{path} must be one of {', '.join(map(str, values))}; not {value!r}")
    for side, size in (("height", config.data.image_height), ("width", config.data.image_width)):
        nearest = max(16, round(size / 16) * 16)
        require(
            size > 0 and size % 16 == 0,
            f"data.image_{side} must be a positive multiple of 16 (the feature stride), not {size}; use {nearest}",
        )
    # Which there are, the tables know. A shell that drops the quotes of a tuple makes one name of all, or letters.
    odd = [camera for camera in config.data.cameras if len(camera) < 2 or {*camera} & {*",;()[]{}'\"/ \t\n"}]
    require(
        not odd,
        f"data.cameras holds {', '.join(map(repr, odd))}, which can be no names; name cameras as "
        "\"('CAM_FRONT','CAM_BACK')\"",
    )
    twice = [camera for camera in dict.fromkeys(config.data.cameras) if config.data.cameras.count(camera) > 1]
    require(not twice, f"data.cameras names {', '.join(twice)} more than once; name each camera once")
    require(len(config.data.cameras) > 0, "data.cameras must name at least one camera")
    found += range_problems(config)
    depth = config.model.depth
    require(
        0 < depth.min_m < depth.max_m < math.inf,
        f"model.depth needs 0 < min_m < max_m, finite, not {depth.min_m} and {depth.max_m}; set "
        "--config.model.depth.min_m and --config.model.depth.max_m, in metres",
    )
    require(
        config.train.checkpoint_every != 0 or config.train.checkpoint_minutes != 0,
        "train.checkpoint_every and train.checkpoint_minutes are both 0, so a run that is killed would lose all of its "
        "steps; set one of them, such as --config.train.checkpoint_minutes=15",
    )
    require(
        any(weight > 0 for weight in (config.loss.weights() | config.loss.distill.weights()).values()),
        "all weights of loss and loss.distill are 0, so that nothing would be learned; set one of them, such as "
        "--config.loss.cross_entropy=1",
    )
    # The costliest mistake of all: days of training that end in the control.
    require(
        not config.loss.distill.is_on or bool(config.data.teacher_dir),
        "loss.distill has weights above 0 but data.teacher_dir is empty, so distillation would be silently off; "
        "convert a teacher dump with occjax convert-teacher and set --config.data.teacher_dir, or train the "
        "control with configs/supervised.py",
    )
    return found


def _grid_flags(grid: VoxelGrid) -> str:
    """The overrides that make `grid` the model's, to be pasted into a shell."""
    lower, shape = (",".join(str(value) for value in values) for values in (grid.lower_m, grid.shape))
    return (
        f'--config.grid.frame={grid.frame} "--config.grid.lower_m=({lower})" '
        f'--config.grid.voxel_size_m={grid.voxel_size_m} "--config.grid.shape=({shape})"'
    )
