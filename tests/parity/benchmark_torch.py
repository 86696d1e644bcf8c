"""Times the student against the eager PyTorch original on this machine: forward pass and training step, full size.

    python tests/parity/benchmark_torch.py [--only=torch|occjax] [--what=forward|step] [--repeats=3]

Both run configs/original.py in float32, batch 1, on random images of the nuScenes rig and a random teacher. Ours is the
step that `--mode=train` compiles, with everything that it does: colour distortion, all losses of the configuration,
gradient ratio, clipping, AdamW, EMA of parameters and statistics; freed memory is kept as main.py keeps it. The
yardstick takes images that are distorted and normalised already, and computes weighted cross-entropy, depth and the
original's two dense distillation terms, then clips, and updates parameters and their EMA. Each has a process of its
own; runs alternate, so that load on the machine hits both.
"""

# ruff: noqa: T201

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from occjax.benchmark.timing import machine
from occjax.classes import OCC3D_CLASS_COUNTS
from occjax.configs import original
from occjax.losses.class_weights import class_weights
from occjax.targets.column_rule import column_log_probs_from_voxels
from occjax.targets.moving import dense_log_probs
from occjax.types import Batch, CameraRig, TeacherTargets, VoxelCodes, VoxelLabels

# Rows of teacher voxels that are not plainly free; the real dumps have about as many.
ACTIVE_VOXELS = 60_000


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


def random_teacher(r: np.random.Generator, num_voxels: int) -> TeacherTargets:
    index = np.sort(r.choice(num_voxels, ACTIVE_VOXELS, replace=False)).astype(np.int32)
    free = r.integers(0, 256, ACTIVE_VOXELS).astype(np.uint8)
    levels = r.integers(0, 256, (ACTIVE_VOXELS, 9)).astype(np.uint8)
    background = np.full(18, np.log(1e-4 / 17), np.float32)
    background[-1] = np.log1p(-1e-4)
    return TeacherTargets(VoxelCodes(index, free, levels, background, None), None)


def random_batch(config) -> Batch:
    r = np.random.default_rng(0)
    height, width = config.data.image_height, config.data.image_width
    depth_m = r.uniform(1, 44, (1, 6, height // 16, width // 16)) * (r.random((1, 6, height // 16, width // 16)) < 0.3)
    return Batch(
        images=r.integers(0, 256, (1, 6, height, width, 3)).astype(np.uint8),
        rig=nuscenes_like_rig(),
        depth_m=depth_m.astype(np.float32),
        labels=VoxelLabels(r.integers(0, 18, (1, *config.grid.shape)).astype(np.uint8), None),
        teacher=jax.tree.map(lambda x: x[None], random_teacher(r, np.prod(config.grid.shape))),
        sample_index=np.zeros(1, np.int32),
        is_valid=np.ones(1, bool),
    )


def torch_runs(config):
    """Forward pass and training step of the eager reference, as functions without arguments."""
    import torch
    import torch.nn.functional as F
    from torch_student import TorchStudent

    torch.manual_seed(0)
    batch, depth, distill, train = random_batch(config), config.model.depth, config.loss.distill, config.train
    images = torch.as_tensor((batch.images - 116.0) / 57.0).float().permute(0, 1, 4, 2, 3).contiguous()
    rig = {name: torch.as_tensor(value) for name, value in batch.rig._asdict().items()}
    labels = torch.as_tensor(batch.labels.semantics).long()
    weights = torch.as_tensor(class_weights(OCC3D_CLASS_COUNTS, ignored=(0,)).astype(np.float32))
    depth_m = torch.as_tensor(batch.depth_m)
    has_depth = depth_m > 0
    depth_bin = ((depth_m - depth.min_m) / (depth.max_m - depth.min_m) * depth.bins).long().clip(0, depth.bins - 1)
    one_hot = F.one_hot(depth_bin, depth.bins).float()
    sparse = jax.tree.map(lambda x: x[0], batch.teacher)
    teacher_voxels = dense_log_probs(sparse, config.grid.shape)
    teacher_bev = torch.as_tensor(column_log_probs_from_voxels(teacher_voxels, None, np))[None]
    teacher_voxels = torch.as_tensor(teacher_voxels)[None]
    model = TorchStudent(config.model, config.grid.build())
    parameters = [p for p in model.train().parameters() if p.requires_grad]
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=train.learning_rate, weight_decay=train.weight_decay)

    def forward():
        model.eval()
        with torch.inference_mode():
            return model(images, rig)[0].argmax(-1).sum().item()

    def divergence(student, teacher):
        t = distill.temperature
        return F.kl_div(F.log_softmax(student / t, -1), F.softmax(teacher / t, -1), reduction="none").mean() * t * t

    def step():
        model.train()
        logits, depth_logits, _, _ = model(images, rig)
        loss = F.cross_entropy(logits.reshape(-1, 18), labels.reshape(-1), weights)
        probs = depth_logits.softmax(2).permute(0, 1, 3, 4, 2)
        bce = F.binary_cross_entropy(probs[has_depth], one_hot[has_depth], reduction="none").sum(-1).mean()
        loss = loss + config.loss.depth * bce
        loss = loss + distill.voxel_kl * divergence(logits, teacher_voxels)
        loss = loss + distill.bev_kl * divergence(logits.amax(3), teacher_bev)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, train.clip_norm)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averages, parameters, strict=True):
                average.lerp_(parameter, 1 - config.ema_decay)
        return loss.item()

    return forward, step, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def occjax_runs(config):
    """Forward pass and training step of the student, as functions without arguments."""
    from occjax.system.cpu import keep_freed_memory

    keep_freed_memory()
    import jax

    from occjax.predict.forward import make_predictor
    from occjax.predict.stored_weights import Weights
    from occjax.system.mesh import make_mesh, put_batch, replicated
    from occjax.train.learner import initial_state, make_learner
    from occjax.train.step import make_train_step

    mesh = make_mesh()
    learner = make_learner(config, total_steps=1000)
    state = [initial_state(learner, replicated(mesh))]
    batch = put_batch(random_batch(config), mesh)
    train_step = make_train_step(learner, mesh)
    weights = Weights(*state[0].student(config.eval.weights), step=0)
    predict = make_predictor(config, mesh, lambda logits, _: logits.argmax(-1).astype(np.uint8))(weights)

    def forward():
        return int(predict(batch).sum())

    def step():
        state[0], metrics = train_step(state[0], batch)
        return float(metrics["loss"])

    return forward, step, f"jax {jax.__version__} on {jax.devices()[0].device_kind}"


def serve(connection, name):
    """A process of its own for one of the two: runs what it is asked for and answers with the seconds it took."""
    forward, step, what = {"torch": torch_runs, "occjax": occjax_runs}[name](original.get_config())
    connection.send(what)
    while request := connection.recv():
        start = time.perf_counter()
        {"forward": forward, "step": step}[request]()
        seconds = time.perf_counter() - start
        connection.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("torch", "occjax"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--what", choices=("forward", "step", "both"), default="both")
    args = parser.parse_args()
    print(machine())
    # Separate processes: in one, each would pay for the other's thread pool and for memory that the other gave back.
    context = multiprocessing.get_context("spawn")
    children = {}
    for name in ("torch", "occjax"):
        if args.only in (None, name):
            ours, theirs = context.Pipe()
            context.Process(target=serve, args=(theirs, name), daemon=True).start()
            children[name] = ours
            print(f"{name}: {ours.recv()}")
    for part in ("forward", "step"):  # in this order: a step donates what the forward pass reads
        if args.what not in (part, "both"):
            continue
        times = {name: [] for name in children}
        for repeat in range(args.repeats + 1):  # the first one compiles and is not counted
            for name, child in children.items():
                child.send(part)
                seconds, peak = child.recv()
                if repeat:
                    times[name].append(seconds)
                if repeat == args.repeats:
                    best, median = min(times[name]), statistics.median(times[name])
                    print(
                        f"{part:8s} {name:8s} best {best:6.2f} s, median {median:6.2f} s, peak memory {peak:5.2f} GiB"
                    )
        if len(times) == 2:
            medians = {name: statistics.median(values) for name, values in times.items()}
            print(f"{part:8s} ratio occjax / torch of the medians: {medians['occjax'] / medians['torch']:.2f}")
    for child in children.values():
        child.send(None)


if __name__ == "__main__":
    main()
