import numpy as np

from occjax.classes import FREE, IGNORE
from occjax.metrics.prior import PositionPrior


def test_most_frequent_class_of_voxels_and_columns():
    labels = np.array([[11, 4, FREE], [11, 4, FREE], [13, FREE, FREE], [11, IGNORE, 15]], np.uint8)
    labels = labels.reshape(4, 1, 1, 3)
    prior = PositionPrior.of(labels, (1, 1, 3))
    assert prior.by_voxel().ravel().tolist() == [11, 4, FREE]
    assert prior.by_column().ravel().tolist() == [FREE] * 3
    assert prior.counts.sum() == 11


def test_nothing_counted_and_ties_are_free():
    assert PositionPrior.of([], (1, 2, 1)).by_voxel().tolist() == [[[FREE], [FREE]]]
    tie = PositionPrior.of([np.full((1, 1, 1), c, np.uint8) for c in (4, FREE)], (1, 1, 1))
    assert tie.by_voxel().item() == FREE


def test_axes_stay_where_they_are():
    label = np.full((3, 2, 4), FREE, np.uint8)
    label[2, 0, 1] = 7
    label[0, 1, :3] = 15
    prior = PositionPrior.of([label, label], label.shape)
    np.testing.assert_array_equal(prior.by_voxel(), label)
    assert prior.by_column()[0, 1].tolist() == [15] * 4 and prior.by_column()[2, 0].tolist() == [FREE] * 4
