"""Batches from records equal those from files, and shards that are absent, cut, damaged or swapped are refused."""

import json
import shutil

import numpy as np
import pytest
from loading import assert_same, augmented, leaves, make_config, take, write_teacher_folder
from nuscenes_root import write_root

from occjax.convert.pack import pack_split
from occjax.data.index import load_index
from occjax.data.pipeline import make_eval_loader, make_train_loader
from occjax.errors import DataError, SampleError
from occjax.grid import OCC3D_GRID

SPLITS = ("train", "val")
SIZE = {"image_height": 48, "image_width": 64}


def with_occ3d(config):
    config.data.labels = "occ3d"
    config.grid.frame, config.grid.voxel_size_m = "ego", OCC3D_GRID.voxel_size_m
    config.grid.lower_m, config.grid.shape = OCC3D_GRID.lower_m, OCC3D_GRID.shape
    return config


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Root, teacher and records, five training samples in shards of two and three for validation; a camera is gone."""
    folder = tmp_path_factory.mktemp("records")
    root = write_root(folder / "nuscenes", dropped=(("scene-0061", 1, "CAM_FRONT"),))
    config = teaching(make_config(root, **SIZE))
    index = load_index(config.data)
    write_teacher_folder(folder / "teacher", index.split("train"))
    for split in SPLITS:
        assert not pack_split(config, index, split, folder / "records", samples_per_shard=2).failures
    return folder


def teaching(config):
    config.data.teacher_dir = config.data.root.replace("nuscenes", "teacher")
    config.loss.distill.voxel_kl = 1.0
    return config


@pytest.fixture
def records(packed, tmp_path):
    """A copy that a test may damage, with its configuration and index."""
    shutil.copytree(packed / "records", tmp_path / "records")
    config = teaching(make_config(packed / "nuscenes", records_dir=str(tmp_path / "records"), **SIZE))
    return tmp_path / "records", config, load_index(config.data)


def both(packed, change=lambda config: config, folder="records", **data):
    """Configurations that read files, and records."""
    configs = [change(teaching(make_config(packed / "nuscenes", **SIZE, **data))) for _ in range(2)]
    configs[1].data.records_dir = str(packed / folder)
    return configs


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_files_bit_for_bit(packed, workers):
    from_files, from_records = both(packed, batch_size=2)
    from_records.data.workers = workers
    index = load_index(from_files.data)
    for a, b in zip(*(take(make_train_loader(config, index), 6) for config in (from_files, from_records)), strict=True):
        assert a.teacher is not None and a.depth_m.any()
        assert_same(a, b)
    for split in SPLITS:
        loaders = [make_eval_loader(config, index, split, batch_size=2) for config in (from_files, from_records)]
        pairs = list(zip(*loaders, strict=True))
        assert len(pairs) == {"train": 3, "val": 2}[split]
        for a, b in pairs:
            assert_same(a, b)


def test_occ3d_masks_and_bev_augmentation_are_the_same_too(packed):
    def change(config):
        with_occ3d(config)
        config.data.teacher_dir, config.loss.distill.voxel_kl = "", 0.0
        config.augment.bev_rotate_deg, config.augment.bev_flip_x = 22.5, True
        return config

    from_files, from_records = both(packed, change, folder="occ3d")
    index = load_index(from_files.data)
    assert not pack_split(from_files, index, "train", packed / "occ3d", samples_per_shard=8).failures
    first, second = (take(make_train_loader(config, index), 3) for config in (from_files, from_records))
    assert all(batch.labels.camera_mask.any() for batch in first)
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)


def test_under_image_augmentation_only_the_images_differ_and_little(packed):
    from_files, from_records = both(packed, augmented)
    index = load_index(from_files.data)
    for a, b in zip(*(take(make_train_loader(config, index), 3) for config in (from_files, from_records)), strict=True):
        assert_same(a._replace(images=None), b._replace(images=None))
        error = a.images.astype(float) - b.images
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 25
        # One pixel off is noticed.
        assert np.mean(np.abs(error)) < 0.5 * np.mean(np.abs(a.images.astype(float) - np.roll(b.images, 1, axis=3)))


def test_a_shard_without_manifest_was_not_finished(records):
    folder, config, index = records
    (folder / "train-00001-of-00003.json").unlink()
    tokens = index.split("train").tokens
    with pytest.raises(DataError, match=rf"lack 2 of 5 samples of split train, tokens {tokens[2]}, {tokens[3]}; pack"):
        make_train_loader(config, index)


def test_absent_and_cut_shards_are_found_at_the_start(records):
    folder, config, index = records
    shard = folder / "train-00002-of-00003.array_record"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"train-00002-of-00003.array_record has \d+ bytes, .* says \d+; delete"):
        make_train_loader(config, index)
    shard.unlink()
    with pytest.raises(DataError, match=r"train-00002-of-00003.array_record cannot be read .No such file"):
        make_train_loader(config, index)
    (folder / "train-00002-of-00003.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest .*train-00002-of-00003.json cannot be read"):
        make_train_loader(config, index)
    config.data.records_dir = str(folder / "nowhere")
    with pytest.raises(DataError, match=r"nowhere does not exist; pack it"):
        make_train_loader(config, index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_names_shard_and_sample_or_is_skipped(records, workers):
    folder, config, index = records
    config.data.workers = workers
    shard = folder / "train-00001-of-00003.array_record"
    content = bytearray(shard.read_bytes())
    content[200:260] = bytes(60)  # of its first record: row 2
    shard.write_bytes(content)
    with pytest.raises(SampleError, match=rf"{index.split('train').tokens[2]} in .*train-00001-of-00003.*delete"):
        list(make_eval_loader(config, index, "train", batch_size=1))
    config.data.on_error = "skip"
    loader = make_train_loader(config, index)
    rows = [int(next(loader).sample_index[0]) for _ in range(5)]
    loader.close()
    assert list(loader.skipped) == [2]
    assert sorted(rows) == [0, 1, 3, 3, 4]  # the next one stands in


def test_records_of_other_samples_are_refused(records):
    folder, config, index = records
    first, second = folder / "train-00000-of-00003.json", folder / "train-00001-of-00003.json"
    contents = [json.loads(path.read_text()) for path in (first, second)]
    contents[0]["tokens"], contents[1]["tokens"] = contents[1]["tokens"], contents[0]["tokens"]
    for path, content in zip((first, second), contents, strict=True):
        path.write_text(json.dumps(content))
    tokens = index.split("train").tokens
    with pytest.raises(SampleError, match=rf"of sample {tokens[0]} in .* holds sample {tokens[2]}"):
        next(make_eval_loader(config, index, "train", batch_size=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.data, "image_width", 48), "image_width is 64, the configuration wants 48"),
        (lambda c: setattr(c.data, "cameras", ("CAM_FRONT", "CAM_BACK")), "also wants CAM_BACK"),
        (with_occ3d, "labels is 'surroundocc', the configuration wants 'occ3d'"),
    ],
)
def test_records_of_another_configuration_are_refused(records, change, message):
    _, config, index = records
    change(config)
    with pytest.raises(DataError, match=message):
        make_train_loader(config, index)


def test_evaluation_does_without_a_teacher_that_was_not_packed(records):
    _, config, index = records
    assert next(make_eval_loader(config, index, "val", batch_size=1)).teacher is None
    config.data.train_split = "val"
    with pytest.raises(DataError, match="lack 3 of 3 teacher targets of split val"):
        make_train_loader(config, index)


def test_one_camera_of_several_can_be_read(records, packed):
    _, config, index = records
    config.data.cameras = ("CAM_FRONT_RIGHT",)
    batch = next(make_eval_loader(config, index, "train", batch_size=1))
    config.data.records_dir = ""
    assert len(leaves(batch)) > 5
    assert_same(batch, next(make_eval_loader(config, index, "train", batch_size=1)))
