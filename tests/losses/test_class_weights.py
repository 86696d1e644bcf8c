import numpy as np
import pytest

from occjax.classes import FREE, NUM_CLASSES, OCC3D_CLASS_COUNTS
from occjax.losses.class_weights import class_weights, count_classes


def test_weights_are_inverse_logarithms_of_the_published_counts():
    weights = class_weights()
    ratio = np.log(152386.001) / np.log(1892500630.001)
    np.testing.assert_allclose(weights[FREE] / weights[2], ratio, rtol=1e-6)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-6)
    assert weights.argmax() == 2 and weights.argmin() == FREE


def test_weights_do_not_depend_on_the_size_of_the_data_set():
    np.testing.assert_allclose(class_weights(OCC3D_CLASS_COUNTS * 1000), class_weights(), rtol=1e-5)


def test_ignored_class_weighs_nothing_and_the_rest_average_to_one():
    weights = class_weights(ignored=(0,))
    assert weights[0] == 0
    np.testing.assert_allclose(weights[1:].mean(), 1.0, rtol=1e-6)


def test_tiny_label_sets_give_finite_positive_weights():
    counts = np.zeros(NUM_CLASSES, int)
    counts[[4, FREE]] = 1, 639_999
    weights = class_weights(counts)
    assert np.all(weights > 0) and np.all(np.isfinite(weights)) and weights[4] > weights[FREE]


@pytest.mark.parametrize("counts", [np.zeros(NUM_CLASSES), np.ones(17), -np.ones(NUM_CLASSES), np.eye(NUM_CLASSES)[0]])
def test_counts_that_cannot_be_weighted_are_refused(counts):
    with pytest.raises(ValueError, match="voxel counts"):
        class_weights(counts, ignored=(0,))


def test_counting_leaves_out_ignored_voxels():
    counts = count_classes([np.array([[4, 4, 255]], np.uint8), np.array([17], np.uint8)])
    assert counts[4] == 2 and counts[FREE] == 1 and counts.sum() == 3
