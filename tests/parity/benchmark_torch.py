"""Times the student against the eager PyTorch original on this machine: forward pass and training step, full size.

    python tests/parity/benchmark_torch.py [--only=torch|occjax] [--repeats=3]

Both run configs/original.py in float32, batch 1, on random images of the nuScenes rig, with the same losses (weighted
cross-entropy and depth), gradient clipping, AdamW and EMA. Runs alternate so that load on the machine hits both.
"""

# ruff: noqa: T201

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from configs import original
from occjax.types import CameraRig

EMA, CLIP, LEARNING_RATE, WEIGHT_DECAY, DEPTH_WEIGHT = 0.999, 5.0, 1e-4, 0.01, 3.0


def nuscenes_like_rig() -> CameraRig:
    """Six level cameras around the vehicle, 1600x900 resized to 640x480."""
    cam_from_grid = []
    for yaw in np.deg2rad([90, 35, 145, 270, 200, 340]):
        forward, right = [np.cos(yaw), np.sin(yaw), 0], [np.sin(yaw), -np.cos(yaw), 0]
        rotation = np.array([right, [0, 0, -1], forward])
        cam_from_grid.append(
            np.block([[rotation, -rotation @ [[0], [0], [-0.3]]], [np.zeros((1, 3)), np.ones((1, 1))]])
        )
    k = np.array([[1260, 0, 800], [0, 1260, 450], [0, 0, 1]])
    return CameraRig(
        pixel_from_cam=np.tile(np.float32(k), (1, 6, 1, 1)),
        cam_from_grid=np.float32(cam_from_grid)[None],
        input_from_pixel=np.tile(np.diag(np.float32([0.4, 480 / 900, 1])), (1, 6, 1, 1)),
        augmented_from_grid=np.eye(3, dtype=np.float32)[None],
        is_present=np.ones((1, 6), bool),
    )


def inputs(config):
    r = np.random.default_rng(0)
    images = r.normal(size=(1, 6, config.data.image_height, config.data.image_width, 3)).astype(np.float32)
    labels = r.integers(0, 18, config.grid.shape)[None].astype(np.int32)
    h, w, bins = config.data.image_height // 16, config.data.image_width // 16, config.model.depth.bins
    depth_bin = r.integers(0, bins, (1, 6, h, w)).astype(np.int32)
    has_depth = r.random((1, 6, h, w)) < 0.3
    return images, nuscenes_like_rig(), labels, depth_bin, has_depth, np.linspace(0.5, 1.5, 18, dtype=np.float32)


def torch_runs(config):
    """Forward pass and training step of the eager reference, as functions without arguments."""
    import torch
    import torch.nn.functional as F

    from tests.parity.torch_student import TorchStudent

    torch.manual_seed(0)
    images, rig, labels, depth_bin, has_depth, class_weights = inputs(config)
    images = torch.as_tensor(images).permute(0, 1, 4, 2, 3).contiguous()
    rig = {name: torch.as_tensor(value) for name, value in rig._asdict().items()}
    labels, class_weights = torch.as_tensor(labels).long(), torch.as_tensor(class_weights)
    one_hot = F.one_hot(torch.as_tensor(depth_bin).long(), config.model.depth.bins).float()
    has_depth = torch.as_tensor(has_depth)
    model = TorchStudent(config.model, config.grid.build())
    parameters = [p for p in model.train().parameters() if p.requires_grad]
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def forward():
        model.eval()
        with torch.inference_mode():
            return model(images, rig)[0].sum().item()

    def step():
        model.train()
        logits, depth_logits, _, _ = model(images, rig)
        loss = F.cross_entropy(logits.reshape(-1, 18), labels.reshape(-1), class_weights)
        probs = depth_logits.softmax(2).permute(0, 1, 3, 4, 2)
        bce = F.binary_cross_entropy(probs[has_depth], one_hot[has_depth], reduction="none").sum(-1).mean()
        loss = loss + DEPTH_WEIGHT * bce
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter, 1 - EMA)
        return loss.item()

    return forward, step, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def occjax_runs(config):
    """Forward pass and training step of the student, as functions without arguments."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from occjax.models.student import Student, apply_student, split_student, trainable_mask

    batch = jax.tree.map(jnp.asarray, inputs(config))
    model = Student(config.model, config.grid.build(), rngs=nnx.Rngs(0))
    graphdef, params, stats = split_student(model)
    del model
    mask = trainable_mask(config.model, params)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.masked(optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY), mask)
    )

    def loss_fn(params, stats, batch, key):
        images, rig, labels, depth_bin, has_depth, class_weights = batch
        out, stats = apply_student(graphdef, params, stats, images, rig, train=True, dropout_key=key)
        log_probs = jax.nn.log_softmax(out.voxel_logits)
        weight = class_weights[labels]
        picked = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
        loss = -jnp.sum(weight * picked) / jnp.sum(weight)
        probs = jnp.clip(jax.nn.softmax(out.depth_logits), 1e-7, 1 - 1e-7)
        hit = jax.nn.one_hot(depth_bin, probs.shape[-1])
        bce = -jnp.sum(hit * jnp.log(probs) + (1 - hit) * jnp.log(1 - probs), axis=-1)
        return loss + DEPTH_WEIGHT * jnp.sum(bce * has_depth) / jnp.sum(has_depth), stats

    def train_step(state, batch, key):
        params, stats, opt_state, ema = state
        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, stats, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        ema = jax.tree.map(lambda average, p: EMA * average + (1 - EMA) * p, ema, params)
        return (params, stats, opt_state, ema), loss

    train_step = jax.jit(train_step, donate_argnums=0)
    infer = jax.jit(lambda p, s, b: apply_student(graphdef, p, s, b[0], b[1], train=False)[0].voxel_logits.sum())
    opt_state = jax.jit(optimizer.init)(params)
    state = [(params, stats, opt_state, jax.tree.map(jnp.copy, params))]

    def forward():
        return float(infer(*state[0][:2], batch))

    def step():
        state[0], loss = train_step(state[0], batch, jax.random.key(0))
        return float(loss)

    return forward, step, f"jax {jax.__version__} on {jax.devices()[0].device_kind}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("torch", "occjax"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--what", choices=("forward", "step", "both"), default="both")
    args = parser.parse_args()
    makers = {"torch": torch_runs, "occjax": occjax_runs}
    runs = {name: make(original.get_config()) for name, make in makers.items() if args.only in (None, name)}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, (_, _, what) in runs.items():
        print(f"{name}: {what}")
    for index, part in enumerate(("forward", "step")):
        if args.what not in (part, "both"):
            continue
        times = {name: [] for name in runs}
        for repeat in range(args.repeats + 1):  # the first one compiles and is not counted
            for name in runs:
                start = time.perf_counter()
                runs[name][index]()
                if repeat:
                    times[name].append(time.perf_counter() - start)
        for name, values in times.items():
            print(f"{part:8s} {name:8s} best {min(values):6.2f} s, median {statistics.median(values):6.2f} s")
        if len(times) == 2:
            best = {name: min(values) for name, values in times.items()}
            print(f"{part:8s} ratio occjax / torch: {best['occjax'] / best['torch']:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process {peak:.2f} GiB ({' and '.join(runs)})")


if __name__ == "__main__":
    main()
