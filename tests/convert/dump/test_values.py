"""Layouts and value kinds of dump arrays: what is accepted becomes the same probabilities, the rest is refused."""

import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES
from occjax.convert.dump.arrays import DumpError, read_dump_array
from occjax.convert.dump.values import (
    LOGITS,
    MAX_OVER_Z,
    PROBABILITIES,
    bev_probabilities,
    class_first,
    dense_log_probs,
    voxel_scores,
)
from occjax.targets.codec import kl_divergence

SHAPE = (7, 6, 5)
COUNT = 7 * 6 * 5


def probabilities(seed=0, occupied=0.3):
    """Class-first [K, X, Y, Z] with many exactly free voxels."""
    r = np.random.default_rng(seed)
    probs = np.zeros((COUNT, NUM_CLASSES), np.float32)
    probs[:, FREE] = 1
    index = r.random(COUNT) < occupied
    probs[index] = r.dirichlet(np.full(NUM_CLASSES, 0.5), index.sum())
    return probs.T.reshape(NUM_CLASSES, *SHAPE)


def scattered(sparse):
    rows = np.tile(sparse.background, (COUNT, 1))
    rows[sparse.index] = sparse.rows
    return rows


LAYOUTS = {
    "class first": lambda p: p,
    "leading one": lambda p: p[None],
    "two leading ones": lambda p: p[None, None],
    "class last": lambda p: np.moveaxis(p, 0, -1),
    "flat class first": lambda p: p.reshape(NUM_CLASSES, -1),
    "flat class last": lambda p: p.reshape(NUM_CLASSES, -1).T,
    "flat with leading one": lambda p: p.reshape(NUM_CLASSES, -1).T[None],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_probabilities(layout):
    probs = probabilities().astype(np.float16)
    planes = class_first(LAYOUTS[layout](probs), SHAPE, NUM_CLASSES, FREE)
    sparse, kind = voxel_scores(planes)
    assert kind == PROBABILITIES
    wanted = probs.reshape(NUM_CLASSES, -1).T.astype(np.float32)
    np.testing.assert_allclose(scattered(sparse), wanted / wanted.sum(1, keepdims=True), atol=1e-3)


def test_logits_and_probabilities_become_the_same_teacher():
    probs = probabilities(occupied=1.0).reshape(NUM_CLASSES, -1)
    offset = np.random.default_rng(1).normal(0, 3, COUNT)
    logits = np.log(np.maximum(probs, 1e-7)) + offset
    for array in (logits.astype(np.float32), logits.astype(np.float16)):
        sparse, kind = voxel_scores(class_first(array, SHAPE, NUM_CLASSES, FREE))
        assert kind == LOGITS
        np.testing.assert_allclose(scattered(sparse), probs.T, atol=1e-2)
    from_logits = dense_log_probs(logits, LOGITS).astype(np.float32)
    from_probs = dense_log_probs(probs, PROBABILITIES).astype(np.float32)
    assert kl_divergence(from_probs, from_logits).mean() < 1e-4


def test_probabilities_of_float32_and_hard_labels():
    probs = probabilities()
    sparse, kind = voxel_scores(class_first(probs, SHAPE, NUM_CLASSES, FREE))
    assert kind == PROBABILITIES
    labels = probs.argmax(0).astype(np.uint8)
    hard, kind = voxel_scores(class_first(labels, SHAPE, NUM_CLASSES, FREE))
    assert kind == PROBABILITIES
    np.testing.assert_array_equal(scattered(hard).argmax(1), labels.reshape(-1))
    with pytest.raises(DumpError, match="hard labels"):
        class_first(np.full(SHAPE, 18, np.uint8), SHAPE, NUM_CLASSES, FREE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rounding_below_zero_makes_no_logits(dtype):
    probs = probabilities().astype(dtype)
    probs[probs == 0] = -1e-7
    probs[2, 0, 0, 0] = -0.0
    sparse, kind = voxel_scores(class_first(probs, SHAPE, NUM_CLASSES, FREE))
    assert kind == PROBABILITIES
    np.testing.assert_allclose(scattered(sparse).sum(1), 1, atol=1e-3)
    flat = class_first(probs[..., 0], SHAPE[:2], NUM_CLASSES, FREE)
    assert bev_probabilities(flat)[1] == PROBABILITIES
    # What sums to 1 with a value that is no rounding is nothing that we know.
    probs = probabilities().astype(dtype)
    probs[0] -= 0.25
    probs[1] += 0.25
    with pytest.raises(DumpError, match="sum to 1, but the least is -0.25"):
        voxel_scores(class_first(probs, SHAPE, NUM_CLASSES, FREE))


def test_another_free_id_moves_free_to_the_end():
    probs = probabilities()
    free_first = np.concatenate([probs[FREE:], probs[:FREE]])
    np.testing.assert_array_equal(
        class_first(free_first, SHAPE, NUM_CLASSES, 0), class_first(probs, SHAPE, NUM_CLASSES, FREE)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_not_finite_is_counted_and_refused(bad, dtype):
    probs = probabilities().astype(dtype)
    probs[3, 1, 2, 3] = bad
    probs[FREE, 0, 0, 0] = bad
    with pytest.raises(DumpError, match="2 of 3780 values are NaN or infinite"):
        voxel_scores(class_first(probs, SHAPE, NUM_CLASSES, FREE))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p * 0.5,
        lambda p: p * 100,
        lambda p: np.zeros_like(p),
        lambda p: np.where(np.arange(NUM_CLASSES)[:, None, None, None] == FREE, p, p + 0.01),  # sums to 1.17
        lambda p: 1 / (1 + np.exp(-8 * (p - 0.5))),  # one sigmoid per class
    ],
)
def test_neither_probabilities_nor_logits_is_refused(change):
    with pytest.raises(DumpError, match="neither probabilities"):
        voxel_scores(class_first(change(probabilities()).astype(np.float16), SHAPE, NUM_CLASSES, FREE))


def test_wrong_shapes_and_class_counts_are_refused_with_the_accepted_ones():
    probs = probabilities()
    for wrong in (probs[:17], probs[:, :6], probs[None].repeat(2, 0), probs[..., None]):
        with pytest.raises(DumpError, match=r"is none of \(18, 7, 6, 5\)"):
            class_first(wrong, SHAPE, NUM_CLASSES, FREE)


def test_bev_maps_of_every_kind():
    probs = probabilities(occupied=0.1)
    columns = probs.max(-1)  # what the dump script writes
    assert columns.sum(0).max() > 1.2
    found, kind = bev_probabilities(class_first(columns, SHAPE[:2], NUM_CLASSES, FREE))
    assert kind == MAX_OVER_Z
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    occupied = 1 - columns[:FREE].reshape(FREE, -1).max(0)
    assert np.all(found[:, FREE] <= occupied + 1e-5)  # at least as occupied as the surest class
    distribution = probs[..., 0]
    found, kind = bev_probabilities(class_first(distribution, SHAPE[:2], NUM_CLASSES, FREE))
    assert kind == PROBABILITIES
    np.testing.assert_allclose(found, distribution.reshape(NUM_CLASSES, -1).T, atol=1e-3)
    found, kind = bev_probabilities(class_first(np.log(distribution + 1e-6), SHAPE[:2], NUM_CLASSES, FREE))
    assert kind == LOGITS
    np.testing.assert_allclose(found, distribution.reshape(NUM_CLASSES, -1).T, atol=1e-3)
    for bad in (distribution * 0.5, np.random.default_rng(0).random((NUM_CLASSES, *SHAPE[:2]))):
        with pytest.raises(DumpError, match="neither"):
            bev_probabilities(class_first(bad, SHAPE[:2], NUM_CLASSES, FREE))


def test_rows_that_sum_to_one_but_for_rounding_are_made_to():
    planes = np.zeros((NUM_CLASSES, 200), np.float16)
    planes[FREE] = 1
    planes[:, 0] = 0
    planes[[4, FREE], 0] = 0.5, 0.502
    sparse, kind = voxel_scores(planes)
    assert kind == PROBABILITIES and sparse.index.tolist() == [0]
    total = 0.5 + float(np.float16(0.502))
    np.testing.assert_allclose(sparse.rows[0, [4, FREE]], [0.5 / total, 1 - 0.5 / total], atol=1e-6)


def test_maxima_over_z_are_read_as_one_voxel_for_each_class():
    planes = np.zeros((NUM_CLASSES, 20), np.float32)
    planes[FREE] = 0.9
    planes[4], planes[11] = 0.5, 0.25
    found, kind = bev_probabilities(planes)
    # Free with 0.5 * 0.75, the rest as 2 to 1.
    assert kind == MAX_OVER_Z
    np.testing.assert_allclose(found[0, [4, 11, FREE]], [0.625 * 2 / 3, 0.625 / 3, 0.375], rtol=1e-5)


def test_arrays_are_found_by_key_or_alone(tmp_path):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.savez(tmp_path / "a.npz", logits=array)
    np.savez_compressed(tmp_path / "b.npz", weird=array)
    np.savez(tmp_path / "c.npz", one=array, two=array + 1)
    np.savez(tmp_path / "f.npz", arr_0=np.asfortranarray(array))
    np.save(tmp_path / "d.npy", array)
    for name, key in (
        ("a.npz", ""),
        ("a.npz", "pred_occ"),
        ("b.npz", ""),
        ("c.npz", "one"),
        ("d.npy", ""),
        ("f.npz", ""),
    ):
        np.testing.assert_array_equal(read_dump_array(tmp_path / name, key), array)
    np.savez(tmp_path / "g.npz", strange=array, token=np.array("abc"), camera_count=np.array([6]))
    np.testing.assert_array_equal(read_dump_array(tmp_path / "g.npz"), array)
    with pytest.raises(DumpError, match="holds one, two; name the array"):
        read_dump_array(tmp_path / "c.npz")
    with pytest.raises(DumpError, match="name the array"):
        read_dump_array(tmp_path / "b.npz", "logits2")


def test_damaged_files_and_objects_are_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", logits=np.random.default_rng(0).random((18, 50)))
    whole = (tmp_path / "a.npz").read_bytes()
    for cut in (0, 20, len(whole) // 2, len(whole) - 3):
        (tmp_path / "t.npz").write_bytes(whole[:cut])
        with pytest.raises(DumpError, match=r"t\.npz"):
            read_dump_array(tmp_path / "t.npz")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "t.npz").write_bytes(flipped)
    with pytest.raises(DumpError, match=r"t\.npz"):
        read_dump_array(tmp_path / "t.npz")
    np.savez(tmp_path / "o.npz", logits=np.array([object()], dtype=object))
    with pytest.raises(DumpError, match="Python objects"):
        read_dump_array(tmp_path / "o.npz")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DumpError, match="ends in one of"):
        read_dump_array(tmp_path / "x.txt")


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(0).random((3, 4)).astype(np.float16)
    torch.save(torch.from_numpy(array), tmp_path / "a.pt")
    torch.save({"logits": torch.from_numpy(array), "other": torch.zeros(2)}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        np.testing.assert_array_equal(read_dump_array(tmp_path / name), array)
