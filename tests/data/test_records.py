"""One record: everything comes back bit for bit, and what is no record says so."""

import numpy as np
import pytest

from occjax.classes import NUM_CLASSES
from occjax.data.records import Record, decode_record, encode_record, filter_image, unfilter_image
from occjax.errors import DataError
from occjax.grid import VoxelGrid
from occjax.targets.files import compact_teacher, sparse_from_probabilities

GRID = VoxelGrid("lidar", (-2.0, -1.5, -1.0), 0.5, (8, 6, 4))


def random_image(r, shape=(12, 20, 3)):
    return r.integers(0, 256, shape, np.uint8)


def random_record(*, masked=True, lidar=True, teacher=True):
    r = np.random.default_rng(0)
    probs = r.dirichlet(np.full(NUM_CLASSES, 0.3), GRID.shape).astype(np.float32)
    return Record(
        token="a" * 32,
        images={"CAM_FRONT": filter_image(random_image(r)), "CAM_BACK": filter_image(random_image(r))},
        points=r.normal(0, 20, (37, 3)).astype(np.float32) if lidar else None,
        semantics=r.integers(0, 18, GRID.shape, np.uint8),
        camera_mask=r.random(GRID.shape) < 0.5 if masked else None,
        teacher=compact_teacher("a" * 32, GRID, sparse_from_probabilities(probs), probs[:, :, 0]) if teacher else None,
    )


def test_filtering_is_undone_exactly():
    image = random_image(np.random.default_rng(1))
    image[3] = 255
    out = np.empty_like(image)
    unfilter_image(filter_image(image), out)
    np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize("parts", [{}, {"masked": False}, {"lidar": False}, {"teacher": False}])
def test_a_record_comes_back_as_it_was(parts):
    record = random_record(**parts)
    found = decode_record(encode_record(record), GRID)
    assert found.token == record.token and list(found.images) == list(record.images)
    arrays = {name: (getattr(record, name), getattr(found, name)) for name in ("points", "semantics", "camera_mask")}
    arrays |= {name: (record.images[name], found.images[name]) for name in record.images}
    if record.teacher is not None:
        assert (found.teacher.token, found.teacher.grid) == (record.token, GRID)
        arrays |= {f: (getattr(record.teacher, f), getattr(found.teacher, f)) for f in record.teacher._fields[2:]}
    for name, (wanted, got) in arrays.items():
        assert (wanted is None) == (got is None), name
        if wanted is not None:
            assert wanted.dtype == got.dtype, name
            np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_without_a_grid_the_teacher_is_left_alone():
    assert decode_record(encode_record(random_record()), None).teacher is None


def test_what_is_no_record_says_so():
    whole = encode_record(random_record())
    for damaged in (b"", whole[:5], whole[:40], whole[:-200], b"\xff" * 64, whole.replace(b'"token"', b'"tokon"')):
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_record(damaged, GRID)
    with pytest.raises(DataError, match="version 9, this occjax reads 1"):
        decode_record(whole.replace(b'{"version": 1', b'{"version": 9'), GRID)
