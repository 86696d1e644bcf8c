"""Mesh with one axis over all devices: the batch is split along it, the state is whole on each."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from occjax.errors import UserError


def make_mesh(devices: list | None = None) -> Mesh:
    """Mesh with the single axis `data` over `devices`, by default all there are."""
    devices = jax.devices() if devices is None else devices
    # Auto axes: explicit ones refuse the model's [B, N, ...] to [B*N, ...], which mixes a split axis with another.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Split along the first axis, a part for each device."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch, mesh: Mesh):
    """The process's numpy batch as global device arrays, split over `data`; transfers run in the background."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def check_batch_size(batch_size: int, accumulate_steps: int, mesh: Mesh) -> None:
    """Raises UserError unless each micro-batch splits evenly over the devices."""
    parts = mesh.size * accumulate_steps
    if batch_size % parts:
        raise UserError(
            f"data.batch_size must be a multiple of devices × train.accumulate_steps = {mesh.size} × "
            f"{accumulate_steps} = {parts}, not {batch_size}; use --config.data.batch_size={parts}"
        )
