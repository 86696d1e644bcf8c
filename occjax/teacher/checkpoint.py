"""Checkpoint: the entries of a published file, checked one and all, become the weights that the stages read."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from occjax.errors import UserError
from occjax.teacher.anchors import EXTENT_M, LOWER_M
from occjax.teacher.layers import Weights
from occjax.teacher.splat import EMPTY_MEAN_M, EMPTY_SCALE_M
from occjax.teacher.variants import TeacherVariant, UnknownVariantError, variant_named, variant_of_shapes
from occjax.teacher.weight_parts import Arrays, Shape, entries, fill
from occjax.teacher.weight_tables import teacher

_SHOWN = 10  # problems of a kind that are listed


class CheckpointError(UserError):
    """The entries of a checkpoint are not those of a published teacher."""


def weights_from_checkpoint(
    arrays: Arrays, variant_name: str | None, *, backbone_dtype: str = "float32"
) -> tuple[TeacherVariant, Weights]:
    """The variant, and its weights as numpy arrays.

    Args:
      arrays: all entries of the checkpoint by name; counts of batches (`num_batches_tracked`) are passed over.
      variant_name: which one it must be; None takes the one that has its shapes.
      backbone_dtype: of the kernels of the backbones' convolutions, but for those that place the taps of others.

    Raises:
      CheckpointError: entries are missing, unexpected, mis-shaped, not finite, variances below 0, or say that the grid
        is another; lists all of it. Or the file is of another variant, or of a backbone alone.
      UnknownVariantError: no published configuration has this name, or these shapes.
    """
    require_teacher(arrays)
    variant = choose_variant(arrays, variant_name)
    table, constants = teacher(variant), buffers(variant)
    shapes = dict(entries(table)) | {key: constant.shape for key, constant in constants.items()}
    problems = list_problems(arrays, shapes, constants)
    if problems:
        raise CheckpointError(
            f"the checkpoint is not that of {variant.name}, nothing was loaded:\n{problems}\n"
            "get the file again, or choose the model that it was saved from"
        )
    weights = fill(table, arrays)
    for eye in ("images", "depth"):
        if eye in weights:
            weights[eye]["backbone"] = round_backbone(weights[eye]["backbone"], backbone_dtype)
    return variant, weights


def round_backbone(weights: Weights, dtype: str) -> Weights:
    """Weights with the kernels that multiply features in `dtype`; those that say where to look stay as they are."""

    def round_leaf(path: tuple, leaf):
        layer, name = (getattr(key, "key", None) for key in path[-2:])
        return leaf.astype(jnp.dtype(dtype)) if name == "kernel" and layer != "offset" else leaf

    return jax.tree_util.tree_map_with_path(round_leaf, weights)


def require_teacher(arrays: Arrays) -> None:
    """Raises CheckpointError if these are the entries of an image backbone and of nothing else of a teacher."""
    has_teacher = any(key.startswith(("lifter.", "encoder.", "head.")) for key in arrays)
    if not has_teacher and any(key.endswith("layer3.0.conv2.conv_offset.weight") for key in arrays):
        raise CheckpointError(
            "the checkpoint holds an image backbone alone, as FCOS3D's does (no lifter, encoder or head), from which "
            "the published code would start with a random decoder; use the teacher's own state_dict.pth"
        )


def choose_variant(arrays: Arrays, name: str | None) -> TeacherVariant:
    """The variant of that name, which must not be another one's by its shapes; or the one that has the shapes."""
    shapes = {key: array.shape for key, array in arrays.items()}
    if name is None:
        return variant_of_shapes(shapes)
    variant = variant_named(name)
    try:
        found = variant_of_shapes(shapes)
    except UnknownVariantError:
        return variant  # damaged, perhaps; all that is wrong will be listed
    if found != variant:
        raise CheckpointError(f"the checkpoint's anchors are those of {found.name}, not {name}; choose {found.name}")
    return variant


def buffers(variant: TeacherVariant) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Constants that checkpoints hold; what they say must be what is computed with here."""
    grid = np.concatenate([LOWER_M, LOWER_M + EXTENT_M])
    names = [name for stage in variant.stages for name in stage]
    found = {"head.aggregator.pc_min": LOWER_M[None], "head.zero_tensor": np.zeros(1, np.float32)}
    for number in (i for i, name in enumerate(names) if name == "spconv"):
        found[f"encoder.layers.{number}.pc_range"] = grid
        found[f"encoder.layers.{number}.grid_size"] = np.full(3, variant.cell_m, np.float32)
    if variant.has_empty_gaussian:
        found |= {
            "head.empty_mean": np.array(EMPTY_MEAN_M, np.float32)[None, None],
            "head.empty_scale": np.array(EMPTY_SCALE_M, np.float32)[None, None],
            "head.empty_rot": np.array([[[1, 0, 0, 0]]], np.float32),
            "head.empty_sem": np.zeros((1, 1, 18), np.float32),
            "head.empty_opa": np.ones((1, 1, 1), np.float32),
        }
    return found


def list_problems(arrays: Arrays, shapes: dict[str, Shape], constants: Arrays) -> str:
    """Everything that is wrong, a line each, ten of a kind and a count; empty where nothing is.

    Args:
      arrays: the checkpoint's entries.
      shapes: those that there must be.
      constants: values that some of them must have.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for key, shape in shapes.items():
        if key not in arrays:
            found["missing"].append(key)
            continue
        # As it will be computed with: a double may be too large for that.
        with np.errstate(over="ignore"):
            array = np.asarray(arrays[key], np.float32)
        if array.shape != shape:
            found["shape"].append(f"{key} is {array.shape}, the model needs {shape}")
        elif not np.isfinite(array).all():
            found["not finite"].append(key)
        elif key.endswith("running_var") and (array < 0).any():
            found["a variance below 0"].append(key)  # NaN, as soon as a root is taken of it
        elif key in constants and not np.array_equal(array, constants[key]):
            said, needed = (np.ravel(x).tolist() for x in (array, constants[key]))
            found["of another grid or model"].append(f"{key} is {said}, the model has {needed}")
    found["unexpected"] = [key for key in arrays if key not in shapes and not key.endswith("num_batches_tracked")]
    lines = []
    for kind, problems in found.items():
        lines += [f"  {kind}: {problem}" for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"  {kind}: {len(problems)} in all")
    return "\n".join(lines)
