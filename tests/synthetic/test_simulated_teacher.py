"""The simulated teacher: form, order, and being neither perfect nor useless."""

import numpy as np
import pytest

from occjax.synthetic.teacher import column_maximum, hard_labels, simulate_teacher


def dump_files(world, split):
    """Per keyframe of a split in GaussianFormer's order: sample and the four arrays of its position."""
    nusc, names = world.nusc, {s["token"]: s["name"] for s in world.nusc.scene}
    samples = sorted(
        (s for s in nusc.sample if split in names[s["scene_token"]]), key=lambda s: (s["scene_token"], s["timestamp"])
    )
    folder = world.root / "teacher_dump"
    for position, sample in enumerate(samples):
        name = f"{position:06d}_0"
        yield (
            sample,
            np.load(folder / "occ3d_logits" / split / f"{name}_3d_logits_fp16.npz")["logits"],
            np.load(folder / "bev_prob" / split / f"{name}_bev_prob_fp16.npz")["prob"],
            np.load(folder / "occ3d_sem" / split / f"{name}_occ3d_sem.npy"),
            np.load(folder / "bev_sem" / split / f"{name}_bev_sem.npy"),
        )


def occupancy_iou(a, b):
    return np.sum((a != 17) & (b != 17)) / np.sum((a != 17) | (b != 17))


@pytest.mark.parametrize("split", ["train", "val"])
def test_dump_has_the_layout_and_order_of_gaussianformer(world, split):
    count = 0
    for sample, probabilities, bev, semantics, bev_semantics in dump_files(world, split):
        count += 1
        assert probabilities.shape == (18, 200, 200, 16) and probabilities.dtype == np.float16
        assert bev.shape == (18, 200, 200) and bev.dtype == np.float16
        np.testing.assert_allclose(probabilities.astype(np.float32).sum(axis=0), 1, atol=2e-3)
        assert probabilities.min() >= 0
        np.testing.assert_array_equal(semantics, probabilities.astype(np.float32).argmax(axis=0))
        np.testing.assert_array_equal(bev, probabilities.max(axis=-1))
        overwritten = np.full((200, 200), 17)
        for z in range(16):
            overwritten = np.where(semantics[:, :, z] != 17, semantics[:, :, z], overwritten)
        np.testing.assert_array_equal(bev_semantics, overwritten)
        # Its own keyframe, unshifted and unflipped, fits best.
        labels = world.surroundocc(sample)
        own = np.mean((semantics == labels)[labels != 17])
        assert 0.4 < own < 0.97 and 0.3 < occupancy_iou(semantics, labels) < 0.97
        for wrong in (labels[::-1], labels.swapaxes(0, 1), np.roll(labels, 1, axis=0), np.roll(labels, 1, axis=1)):
            assert np.mean((semantics == wrong)[labels != 17]) < own
        for other in world.nusc.sample:
            if other["token"] != sample["token"] and other["scene_token"] != sample["scene_token"]:
                assert np.mean((semantics == world.surroundocc(other))[labels != 17]) < own - 0.1
    assert count == world.config.keyframes_per_scene


def test_teacher_misses_confuses_and_hallucinates():
    labels = np.full((200, 200, 16), 17, np.uint8)
    labels[:, :, 5], labels[::8, ::8, 6:9] = 11, 4
    found = hard_labels(simulate_teacher(np.random.default_rng(0), labels))
    cars = labels == 4
    assert 0.02 < (found[cars] == 17).mean() < 0.7
    assert np.isin(found[cars], (10, 0)).any()
    assert (found[..., 12:] == 17).mean() > 0.99
    assert np.any((found != 17) & ~np.isin(found, (0, 4, 10, 11, 12, 13)))


def test_teacher_is_seeded():
    labels = np.full((40, 40, 16), 17, np.uint8)
    labels[:, :, 4] = 11
    first, again, other = (simulate_teacher(np.random.default_rng(s), labels) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bit_pattern_shortcuts_equal_numpy():
    values = np.random.default_rng(0).random((18, 5, 6, 7)).astype(np.float16)
    values[3, 0] = values[7, 0]  # ties go to the first class
    np.testing.assert_array_equal(hard_labels(values), values.argmax(axis=0))
    np.testing.assert_array_equal(column_maximum(values), values.max(axis=-1))
