"""What makes a configuration hold together: every rule on its values, and the remedy for each."""

from collections.abc import Callable
from operator import attrgetter
from typing import get_args

from occjax.config import Config, closed_sets
from occjax.errors import UserError
from occjax.grid import VoxelGrid
from occjax.label_sets import LABEL_SETS


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
        of_labels = labels.grid if labels else grid
        require(
            grid.frame == of_labels.frame,
            f"data.labels={config.data.labels} lie in the {of_labels.frame} frame but grid.frame={grid.frame}; set "
            f"that label set's grid, or a crop of it, with {_grid_flags(of_labels)}, or use the other label set",
        )
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
    for camera in config.data.cameras:
        require(
            # A shell drops the quotes of a tuple, which makes one name of all.
            camera.startswith("CAM_") and "," not in camera,
            f"data.cameras holds {camera!r}; name cameras as \"('CAM_FRONT','CAM_BACK')\"",
        )
    require(len(config.data.cameras) > 0, "data.cameras must name at least one camera")
    for rule, holds, paths in _bounds(config):
        for path in paths:
            value = attrgetter(path)(config)
            require(holds(value), f"{path} must be {rule}, not {value}")
    for name in ("augment.image_scale", "augment.bev_scale"):
        value = attrgetter(name)(config)
        require(
            len(value) == 2 and 0 < value[0] <= value[1],
            f"{name} must be a range, two positive numbers, the smaller first, not {tuple(value)}; write it as "
            f'"--config.{name}=(0.95,1.05)"',
        )
    depth = config.model.depth
    require(
        0 < depth.min_m < depth.max_m and depth.bins >= 1,
        f"model.depth needs 0 < min_m < max_m and at least one bin, not {depth.min_m}, {depth.max_m}, {depth.bins}",
    )
    require(
        config.train.checkpoint_every != 0 or config.train.checkpoint_minutes != 0,
        "train.checkpoint_every and train.checkpoint_minutes are both 0, so a run that is killed would lose all of its "
        "steps; set one of them, such as --config.train.checkpoint_minutes=15",
    )
    # The costliest mistake of all: days of training that end in the control.
    require(
        not config.loss.distill.is_on or bool(config.data.teacher_dir),
        "loss.distill has weights above 0 but data.teacher_dir is empty, so distillation would be silently off; "
        "convert a teacher dump with converters/teacher_to_npz.py and set --config.data.teacher_dir, or train the "
        "control with configs/supervised.py",
    )
    return found


def _bounds(config: Config) -> list[tuple[str, Callable[[float], bool], list[str]]]:
    """Rule, its test and the fields that it holds for; no test is true of NaN."""
    weights = [f"loss.{name}" for name in config.loss.weight_fields()]
    weights += [f"loss.distill.{name}" for name in config.loss.distill.weight_fields()]
    counts = ["data.batch_size", "eval.batch_size", "train.accumulate_steps"]
    counts += ["train.log_every", "train.epochs", "train.ema_samples", "data.max_skipped"]
    # Of these 0 means something of its own: no worker, all samples, as many steps as the epochs have.
    counts_or_none = ["data.workers", "train.steps", "train.eval_every", "eval.max_samples"]
    counts_or_none += ["train.checkpoint_every", "train.checkpoint_minutes"]
    return [
        ("at least 1", lambda value: value >= 1, counts),
        ("0 or more", lambda value: value >= 0, counts_or_none + weights),
        ("above 0", lambda value: value > 0, ["train.learning_rate", "loss.distill.temperature"]),
        # At 1 dropout would leave nothing.
        ("0 or more and below 1", lambda value: 0 <= value < 1, ["model.depth.dropout"]),
        ("0 to 1", lambda value: 0 <= value <= 1, ["loss.distill.free_share"]),
    ]


def _grid_flags(grid: VoxelGrid) -> str:
    """The overrides that make `grid` the model's, to be pasted into a shell."""
    lower, shape = (",".join(str(value) for value in values) for values in (grid.lower_m, grid.shape))
    return (
        f'--config.grid.frame={grid.frame} "--config.grid.lower_m=({lower})" '
        f'--config.grid.voxel_size_m={grid.voxel_size_m} "--config.grid.shape=({shape})"'
    )
