"""The simulated teacher, no real model: the truth blurred and displaced, with misses, confusions and hallucinations."""

import numpy as np

from occjax.classes import CLASS_NAMES, FREE, NUM_CLASSES
from occjax.synthetic.ground import smooth_noise

# What a class is mistaken for, where it is.
CONFUSIONS = {
    "barrier": ("manmade", "others"),
    "bicycle": ("motorcycle", "pedestrian"),
    "bus": ("truck", "car"),
    "car": ("truck", "others"),
    "construction_vehicle": ("truck", "manmade"),
    "motorcycle": ("bicycle", "pedestrian"),
    "pedestrian": ("bicycle", "manmade"),
    "traffic_cone": ("barrier", "others"),
    "trailer": ("truck", "manmade"),
    "truck": ("bus", "car"),
    "driveable_surface": ("sidewalk", "other_flat"),
    "other_flat": ("sidewalk", "driveable_surface"),
    "sidewalk": ("driveable_surface", "terrain"),
    "terrain": ("sidewalk", "other_flat"),
    "manmade": ("vegetation", "others"),
    "vegetation": ("manmade", "terrain"),
    "others": ("manmade", "barrier"),
}
GROUND_CLASSES = (11, 12, 13, 14)
# A voxel hears itself and its face neighbours; elsewhere the teacher is sure of free, as where a splat has no support.
STENCIL = ((0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
STENCIL_WEIGHTS = (0.52, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08)


def corrupt(rng, labels: np.ndarray) -> np.ndarray:
    """Labels uint8 [X, Y, Z] as a fallible observer reports them; worse with distance from the middle.

    Smooth noise decides throughout, not a draw per voxel: models err in whole objects and patches, and what is wrong
    voxel by voxel would be averaged away by any student.
    """
    shape = labels.shape
    x, y = np.meshgrid(*(np.arange(n) for n in shape[:2]), indexing="ij")
    far = np.hypot((x + 0.5) / shape[0] - 0.5, (y + 0.5) / shape[1] - 0.5) * 2  # 0 in the middle, 1 at the sides
    # Objects drift by a fraction of a voxel nearby, by more far away.
    drift = [np.round(smooth_noise(rng, shape[:2], 24) * (0.15 + 0.75 * far)).astype(int) for _ in range(2)]
    x, y = np.clip(x + drift[0], 0, shape[0] - 1), np.clip(y + drift[1], 0, shape[1] - 1)
    noisy = labels[x, y]
    # Misses come in patches and spare most of the ground.
    patch = smooth_noise(rng, shape[:2], 7)
    solid = ~np.isin(noisy, GROUND_CLASSES)
    noisy = np.where((patch < -2.0 + 1.1 * far)[..., None] & solid, np.uint8(FREE), noisy)
    noisy = np.where((patch > 3.1 - 0.9 * far)[..., None] & ~solid, np.uint8(FREE), noisy)
    # Confusions come in patches too, one wrong class per patch.
    wrong = np.tile(np.arange(NUM_CLASSES, dtype=np.uint8), (2, 1))
    for name, others in CONFUSIONS.items():
        wrong[:, CLASS_NAMES.index(name)] = [CLASS_NAMES.index(o) for o in others]
    for alternative in wrong:
        confused = smooth_noise(rng, shape[:2], 9) > 1.9 - 0.6 * far
        noisy = np.where(confused[..., None], alternative[noisy], noisy)
    # Hallucinations stand on the ground.
    for _ in range(int(rng.integers(4, 14))):
        size = rng.integers((2, 2, 2), (9, 5, 6))
        corner = rng.integers(0, np.array(shape) - size)
        height = int(np.median(np.argmax(noisy != FREE, axis=2)))
        block = noisy[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1], height : height + size[2]]
        block[block == FREE] = rng.choice((1, 4, 7, 15, 16, 16))
    return noisy


def simulate_teacher(rng, labels: np.ndarray) -> np.ndarray:
    """Probabilities float16 [18, X, Y, Z] that sum to 1, as GaussianFormer-2 writes them.

    Channels 0-16 are p_occ * softmax(semantics), channel 17 is 1 - p_occ; exactly 0 and 1 where nothing is near.
    """
    noisy = corrupt(rng, labels)
    shape = labels.shape
    padded = np.pad(noisy, 1, constant_values=FREE)
    windows = [np.roll(padded, shift, axis=(0, 1, 2))[1:-1, 1:-1, 1:-1] for shift in STENCIL]
    near = np.logical_or.reduce([w != FREE for w in windows])
    voxels = np.flatnonzero(near)
    # Every neighbour votes for its class; votes for free are what remains to 1.
    classes = np.stack([w[near] for w in windows])  # [stencil, n]
    ballots = (np.arange(len(voxels)) * NUM_CLASSES + classes).ravel()
    votes = np.bincount(ballots, np.repeat(STENCIL_WEIGHTS, len(voxels)), len(voxels) * NUM_CLASSES)
    votes = votes.reshape(-1, NUM_CLASSES)[:, :FREE]
    total = votes.sum(axis=1)
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    confidence = np.clip(0.95 - 0.2 * np.hypot(x, y) + 0.08 * smooth_noise(rng, shape[:2], 10), 0.35, 0.99)
    # Four of five votes are enough to be as sure as the teacher gets at that distance.
    p_occ = np.clip(1.25 * total, 0, 1) * confidence.ravel()[voxels // shape[2]]
    # No class is quite impossible: a student takes logarithms of these.
    semantics = votes / total[:, None] + 0.004
    semantics *= (p_occ / semantics.sum(axis=1))[:, None]
    channels = np.concatenate([semantics, 1 - p_occ[:, None]], axis=1).astype(np.float16).T
    out = np.zeros((NUM_CLASSES, *shape), np.float16)
    out[FREE] = 1
    out.reshape(NUM_CLASSES, -1)[:, voxels] = channels
    return out


def hard_labels(probabilities: np.ndarray) -> np.ndarray:
    """uint8 [X, Y, Z] argmax of float16 [18, X, Y, Z], first class first."""
    # Non-negative float16 compare like their bit patterns, and integers compare faster.
    return probabilities.view(np.uint16).argmax(axis=0).astype(np.uint8)


def column_maximum(probabilities: np.ndarray) -> np.ndarray:
    """float16 [18, X, Y]: each class's largest probability in a column, the dump's `bev_prob`."""
    return probabilities.view(np.uint16).max(axis=-1).view(np.float16)
