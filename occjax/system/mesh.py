"""Mesh with one axis over all devices: the batch is split along it, the state is whole on each."""

from collections import Counter

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from occjax.errors import UserError


def make_mesh(devices: list | None = None) -> Mesh:
    """Mesh with the single axis `data` over `devices`, by default all there are."""
    devices = jax.devices() if devices is None else devices
    # Auto axes: explicit ones refuse the model's [B, N, ...] to [B*N, ...], which mixes a split axis with another.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def devices_in_words() -> str:
    """Number, kind and platform of the devices, "1 × NVIDIA H100 (gpu)": that a run lacks its GPU is seen at once."""
    kinds = Counter((device.device_kind, device.platform) for device in jax.devices())
    return ", ".join(f"{count} × {kind} ({platform})" for (kind, platform), count in kinds.items())


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


def check_batch_size(batch_size: int, accumulate_steps: int, mesh: Mesh, *, is_resumed: bool = False) -> None:
    """Raises UserError unless each micro-batch splits evenly over the devices.

    The remedy is another batch size, or, since that of a run that `is_resumed` stays what it was, fewer devices.
    """
    parts = mesh.size * accumulate_steps
    if batch_size % parts == 0:
        return
    if not is_resumed:
        remedy = f"use --config.data.batch_size={max(batch_size // parts, 1) * parts}"
    elif batch_size % mesh.size == 0:
        remedy = "this run began with that batch: use --config.train.accumulate_steps=1"
    else:
        fitting = max(n for n in range(1, mesh.size) if batch_size % n == 0)
        devices = ",".join(str(device) for device in range(fitting))
        how = {
            "gpu": f"CUDA_VISIBLE_DEVICES={devices}",
            "cpu": f"XLA_FLAGS=--xla_force_host_platform_device_count={fitting}",
        }.get(mesh.devices.flat[0].platform, f"{fitting} visible devices")
        remedy = (
            "this run began with that batch, and goes on with it on fewer devices: use "
            f"{how} and --config.train.accumulate_steps=1"
        )
    raise UserError(
        f"data.batch_size must be a multiple of devices × train.accumulate_steps = {mesh.size} × "
        f"{accumulate_steps} = {parts}, not {batch_size}; {remedy}"
    )
