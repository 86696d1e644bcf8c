"""Goldens of the teacher's stages: arrays by unit, and a unit's weights through the checkpoint's own tables."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from occjax.teacher.weight_parts import Table, fill

UNITS = Path(__file__).resolve().parents[1] / "teacher/teacher_units.npz"


def unit(name: str, path: Path = UNITS) -> dict[str, np.ndarray]:
    """The arrays of a unit; its parameters are named param.…"""
    with np.load(path) as file:
        keys = [key for key in file.files if key.startswith(f"{name}/")]
        return {key.removeprefix(f"{name}/").replace("param/", "param."): file[key] for key in keys}


def unit_weights(arrays: dict[str, np.ndarray], table: Table):
    """The unit's parameters by a table whose keys begin with param."""
    return jax.tree.map(jnp.asarray, fill(table, arrays))


def channels_last(x: np.ndarray) -> jax.Array:
    """[B, C, H, W] to [B, H, W, C]."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def channels_first(x: jax.Array) -> np.ndarray:
    """[B, H, W, C] to [B, C, H, W]."""
    return np.moveaxis(np.asarray(x), -1, 1)
