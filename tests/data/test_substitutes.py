"""Unreadable training samples: the run ends, or goes on with the next readable one, counted, named and limited."""

import errno
import logging
from pathlib import Path

import numpy as np
import pytest
from loading import assert_same, augmented, eval_loader, leaves, make_config, take, train_loader, write_teacher_folder
from nuscenes_root import write_root

from occjax.data.index import load_index
from occjax.errors import DataError, SampleError


@pytest.fixture
def world(tmp_path):
    """Configuration and index of six training samples with a teacher."""
    config = augmented(make_config(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 6})))
    config.data.teacher_dir, config.loss.distill.voxel_kl = str(tmp_path / "teacher"), 1.0
    index = load_index(config.data)
    write_teacher_folder(tmp_path / "teacher", index.split("train"))
    return config, index


def path_of(kind, config, index, row):
    split = index.split("train")
    lidar = split.lidar_file[row].decode()
    return {
        "image": split.root / split.camera_file[row, 1].decode(),
        "LiDAR": split.root / lidar,
        "labels": split.root / f"surroundocc/samples/{lidar.rpartition('/')[2]}.npy",
        "teacher": split.root.parent / f"teacher/{split.tokens[row]}.npz",
    }[kind]


def damage(kind, config, index, row):
    """As broken copies are: cut in half, or empty."""
    path = path_of(kind, config, index, row)
    content = path.read_bytes()
    path.write_bytes(b"" if kind == "LiDAR" else content[: len(content) // 2])
    return path


def rows(batches):
    return [int(row) for batch in batches for row in batch.sample_index]


@pytest.mark.parametrize("kind", ["image", "LiDAR", "labels", "teacher"])
def test_every_kind_of_damage_names_file_and_token_or_is_skipped(world, kind, caplog):
    config, index = world
    sound = take(train_loader(config, index), 6)
    path = damage(kind, config, index, 4)
    token = index.split("train").tokens[4]
    with pytest.raises(SampleError, match=rf"(?s){path}.*{token}|{token}.*{path}"):
        take(train_loader(config, index), 6)
    config.data.on_error = "skip"
    loader = train_loader(config, index)
    with caplog.at_level(logging.WARNING):
        batches = take(loader, 6)
    assert list(loader.skipped) == [4]
    (message,) = [record.getMessage() for record in caplog.records if record.name == "occjax.data.substitutes"]
    assert "skipped sample 1 (at most 10)" in message and path.name in message and token in message
    position = rows(sound).index(4)
    assert rows(batches) == [*rows(sound)[:position], 5, *rows(sound)[position + 1 :]]
    for n, (a, b) in enumerate(zip(sound, batches, strict=True)):
        if n != position:
            assert_same(a, b)
    # The augmentation is that of the position.
    np.testing.assert_array_equal(sound[position].rig.augmented_from_grid, batches[position].rig.augmented_from_grid)


def test_a_disk_that_cannot_be_read_is_told_from_a_damaged_file(world, monkeypatch):
    config, index = world
    wanted = path_of("labels", config, index, 2)
    open_file = Path.open

    def failing(path, *how, **named):
        if path == wanted:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return open_file(path, *how, **named)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(SampleError, match=rf"{wanted} of sample {index.split('train').tokens[2]}: Input/output error"):
        take(train_loader(config, index), 6)
    config.data.on_error = "skip"
    loader = train_loader(config, index)
    assert 2 not in rows(take(loader, 6)) and list(loader.skipped) == [2]


def test_a_teacher_that_cannot_be_read_names_itself(world):
    config, index = world
    path = path_of("teacher", config, index, 3)
    path.unlink()
    path.mkdir()  # opens as no file, whoever the user is
    with pytest.raises(SampleError, match=rf"{path}.*{index.split('train').tokens[3]}"):
        take(train_loader(config, index), 6)


def test_what_is_skipped_does_not_depend_on_workers_or_on_where_a_run_resumes(world):
    config, index = world
    config.data.on_error, config.data.batch_size = "skip", 2
    for row in (1, 2):  # neighbours: row 3 stands in for both
        damage("image", config, index, row)
    expected = take(train_loader(config, index), 6)
    assert {1, 2}.isdisjoint(rows(expected)) and rows(expected).count(3) == 6
    config.data.workers = 2
    loader = train_loader(config, index)
    found = take(loader, 6)
    assert sorted(loader.skipped) == [1, 2]
    config.data.workers = 0
    resumed = train_loader(config, index)
    resumed.set_state({**resumed.get_state(), "next_batch": 3})
    for a, b in zip([*expected, *expected[3:]], [*found, *take(resumed, 3)], strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_the_limit_end_the_run(world, workers):
    config, index = world
    config.data.on_error, config.data.max_skipped, config.data.workers = "skip", 2, workers
    for row in (0, 2, 4):
        damage("image", config, index, row)
    with pytest.raises(DataError, match="3 training samples cannot be read, data.max_skipped allows 2; mend"):
        take(train_loader(config, index), 6)


def test_nothing_readable_is_an_error_and_not_a_search_without_end(world):
    config, index = world
    config.data.on_error, config.data.max_skipped = "skip", 100
    for row in range(6):
        damage("LiDAR", config, index, row)
    with pytest.raises(DataError, match="6 training samples cannot be read"):
        next(train_loader(config, index))


def test_evaluation_never_skips(world):
    config, index = world
    config.data.on_error = "skip"
    path = damage("image", config, index, 0)
    with pytest.raises(SampleError, match=path.name):
        leaves(next(eval_loader(config, index, "train", batch_size=1)))
