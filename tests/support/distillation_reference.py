"""Distillation terms written out on a dense teacher, and small random teachers and students to compare them on."""

import jax
import jax.numpy as jnp
import numpy as np

from occjax.classes import FREE, NUM_CLASSES
from occjax.grid import VoxelGrid
from occjax.targets.codec import encode_rows, floored_log_probs
from occjax.targets.moving import dense_log_probs
from occjax.types import TeacherTargets, VoxelCodes

GRID = VoxelGrid("lidar", (-1.5, -1.0, -1.0), 0.5, (6, 5, 4))
CAPACITY = 64


def make_teacher(seed=0, active=40, valid=None, sharpness=2.0) -> TeacherTargets:
    r = np.random.default_rng(seed)
    index = np.sort(r.choice(GRID.num_voxels, active, replace=False)).astype(np.int32)
    if valid is not None:
        index = index[valid.reshape(-1)[index]]
    logits = r.normal(0, sharpness, (len(index), NUM_CLASSES))
    rows = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    rows[::3, FREE] += 2  # some rows that the teacher calls free
    free, levels = encode_rows((rows / rows.sum(-1, keepdims=True)).astype(np.float32))
    background = np.full(NUM_CLASSES, 1e-3, np.float32)
    background[FREE] = 1 - background[:FREE].sum()
    pad = CAPACITY - len(index)
    voxels = VoxelCodes(
        index=np.pad(index, (0, pad), constant_values=GRID.num_voxels),
        free=np.pad(free, (0, pad)),
        levels=np.pad(levels, ((0, pad), (0, 0))),
        background=floored_log_probs(background),
        valid=None if valid is None else np.packbits(valid.reshape(-1)),
    )
    return TeacherTargets(voxels, None)


def softened(log_probs, temperature):
    return jax.nn.log_softmax(jnp.asarray(log_probs, jnp.float32) / temperature)


def kl(target, student):
    return jnp.sum(jnp.exp(target) * (target - student), -1)


def reference_weights(target, valid, share):
    """Weight of each voxel, one by one: free ones share at most `share`, the rest goes to the others."""
    is_free = np.asarray(target).argmax(-1) == FREE
    num_free, num_occupied = (valid & is_free).sum(), (valid & ~is_free).sum()
    count = num_free + num_occupied
    free_total = min(share, num_free / count) if count else 0.0
    weights = np.zeros(valid.shape, np.float32)
    if num_free:
        weights[valid & is_free] = free_total / num_free
    if num_occupied:
        weights[valid & ~is_free] = (1 - free_total) / num_occupied
    return weights


def reference_column(log_probs, valid):
    """The column rule in probabilities, as the specification words it."""
    probs = jnp.where(valid[..., None], jnp.exp(log_probs), jax.nn.one_hot(FREE, NUM_CLASSES))
    p_free = jnp.prod(probs[..., FREE], -1)
    p_occupied = 1 - probs[..., FREE]
    within = probs[..., :FREE] / jnp.maximum(p_occupied, 1e-9)[..., None]
    mixture = jnp.sum(p_occupied[..., None] * within, -2) / jnp.maximum(p_occupied.sum(-1), 1e-9)[..., None]
    return jnp.log(jnp.maximum(jnp.concatenate([(1 - p_free)[..., None] * mixture, p_free[..., None]], -1), 1e-12))


def reference_terms(logits, teacher, adapted, config, seen=True):
    """All four terms of one sample from a dense teacher tensor; voxels that are not seen do not exist."""
    dense = dense_log_probs(teacher, GRID.shape)
    count = GRID.num_voxels
    bits = teacher.voxels.valid
    valid = np.ones(count, bool) if bits is None else np.unpackbits(bits, count=count).astype(bool)
    valid = valid.reshape(GRID.shape) & seen
    t = config.temperature
    target, student = softened(dense, t), softened(logits, t)
    voxel_kl = t * t * jnp.sum(reference_weights(target, valid, config.free_share) * kl(target, student))

    over = lambda x: jax.nn.log_softmax(x[valid], axis=0)  # noqa: E731  # [valid voxels, K]
    channel_wise = t * t * jnp.mean(jnp.sum(jnp.exp(over(target)) * (over(target) - over(student)), 0))

    cell_valid = valid.any(-1)
    teacher_bev = reference_column(jnp.asarray(dense), valid)
    soft_bev = softened(teacher_bev, t)
    student_bev = softened(reference_column(jax.nn.log_softmax(logits), valid), t)
    bev_kl = t * t * jnp.sum(reference_weights(soft_bev, cell_valid, config.free_share) * kl(soft_bev, student_bev))

    occupied = cell_valid & (np.asarray(teacher_bev).argmax(-1) != FREE)
    centre = lambda x: x - x.mean(-1, keepdims=True)  # noqa: E731
    distance = jnp.mean((centre(adapted) - centre(teacher_bev / t)) ** 2, -1)
    feature = jnp.sum(jnp.where(occupied, distance, 0.0)) / max(occupied.sum(), 1)
    return {"voxel_kl": voxel_kl, "bev_kl": bev_kl, "channel_wise": channel_wise, "bev_feature": feature}


def random_student(seed=1, batch=1):
    r = np.random.default_rng(seed)
    logits = r.normal(0, 1.5, (batch, *GRID.shape, NUM_CLASSES)).astype(np.float32)
    logits[..., FREE] += 2
    adapted = r.normal(0, 1, (batch, *GRID.shape[:2], NUM_CLASSES)).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(adapted)


def some_valid():
    valid = np.random.default_rng(5).random(GRID.shape) < 0.7
    valid[0, 0] = False  # a column that nothing is known of
    return valid


def some_seen():
    seen = np.random.default_rng(6).random(GRID.shape) < 0.5
    seen[1, :2] = False  # columns that no camera sees
    return seen
