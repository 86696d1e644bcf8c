"""A batch comes out of its transfer as it went in, and owns its memory."""

import pickle

import numpy as np
from loading import assert_same

from occjax.data.substitutes import ReadBatch
from occjax.data.transfer import flatten, restore
from occjax.types import Batch, CameraRig, VoxelLabels


def some_batch():
    r = np.random.default_rng(0)
    rig = CameraRig(
        r.normal(size=(2, 3, 3, 3)).astype(np.float32),
        r.normal(size=(2, 3, 4, 4)).astype(np.float32).swapaxes(2, 3),  # not contiguous
        r.normal(size=(2, 3, 3, 3)).astype(np.float32),
        r.normal(size=(2, 3, 3)).astype(np.float32),
        np.array([[True, False, True], [True, True, True]]),
    )
    return Batch(
        images=r.integers(0, 256, (2, 3, 16, 32, 3), np.uint8),
        rig=rig,
        depth_m=r.random((2, 3, 1, 2)).astype(np.float32),
        labels=VoxelLabels(r.integers(0, 18, (2, 5, 3, 7), np.uint8), None),
        teacher=None,
        sample_index=np.array([3, 1], np.int32),
        is_valid=np.array([True, False]),
    )


def test_what_is_restored_is_what_was_flattened():
    read = ReadBatch(some_batch(), {7: "no such file"})
    flat = pickle.loads(pickle.dumps(flatten(read)))
    found = restore(flat)
    assert found.unreadable == {7: "no such file"}
    assert found.batch.teacher is None and found.batch.labels.camera_mask is None
    assert_same(found.batch, read.batch)
    flat.images[:], flat.rest[:] = 0, 0  # as when shared memory is used again
    assert_same(found.batch, read.batch)


def test_few_arrays_travel():
    flat = flatten(ReadBatch(some_batch(), {}))
    assert sum(isinstance(part, np.ndarray) for part in flat) == 2
    assert flat.rest.nbytes < 4096
