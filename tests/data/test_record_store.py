"""Batches from records equal those from files, and shards that are absent, cut, damaged or swapped are refused."""

import json
import shutil

import pytest
from loading import assert_same, augmented, eval_loader, leaves, make_config, take, train_loader, write_teacher_folder
from nuscenes_root import write_root

from occjax.convert.pack import pack_split
from occjax.data.index import load_index
from occjax.data.parts import Parts
from occjax.data.pipeline import make_eval_loader
from occjax.data.sources import unlabelled_rows
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


@pytest.mark.parametrize(
    ("workers", "change"),
    [(0, augmented), pytest.param(2, augmented, marks=pytest.mark.slow), (0, lambda config: config)],
)
def test_batches_are_those_of_files_bit_for_bit(packed, workers, change):
    from_files, from_records = both(packed, change, batch_size=2)
    from_records.data.workers = workers
    index = load_index(from_files.data)
    for a, b in zip(*(take(train_loader(config, index), 6) for config in (from_files, from_records)), strict=True):
        assert a.teacher is not None and a.depth_m.any()
        assert_same(a, b)
    for split in SPLITS:
        loaders = [eval_loader(config, index, split, batch_size=2) for config in (from_files, from_records)]
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
    first, second = (take(train_loader(config, index), 3) for config in (from_files, from_records))
    assert all(batch.labels.camera_mask.any() for batch in first)
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)


def test_a_shard_without_manifest_was_not_finished(records):
    folder, config, index = records
    (folder / "train-00001-of-00003.json").unlink()
    tokens = index.split("train").tokens
    with pytest.raises(DataError, match=rf"lack 2 of 5 samples of split train, tokens {tokens[2]}, {tokens[3]}; pack"):
        train_loader(config, index)


def test_absent_and_cut_shards_are_found_at_the_start(records):
    folder, config, index = records
    shard = folder / "train-00002-of-00003.array_record"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"train-00002-of-00003.array_record has \d+ bytes, .* says \d+; delete"):
        train_loader(config, index)
    shard.unlink()
    with pytest.raises(DataError, match=r"train-00002-of-00003.array_record cannot be read .No such file"):
        train_loader(config, index)
    (folder / "train-00002-of-00003.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest .*train-00002-of-00003.json cannot be read"):
        train_loader(config, index)
    config.data.records_dir = str(folder / "nowhere")
    with pytest.raises(DataError, match=r"nowhere does not exist; pack it"):
        train_loader(config, index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_names_shard_and_sample_or_is_skipped(records, workers):
    folder, config, index = records
    config.data.workers = workers
    shard = folder / "train-00001-of-00003.array_record"
    content = bytearray(shard.read_bytes())
    content[200:260] = bytes(60)  # of its first record: row 2
    shard.write_bytes(content)
    with pytest.raises(SampleError, match=rf"{index.split('train').tokens[2]} in .*train-00001-of-00003.*delete"):
        list(eval_loader(config, index, "train", batch_size=1))
    config.data.on_error = "skip"
    loader = train_loader(config, index)
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
        next(eval_loader(config, index, "train", batch_size=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.data, "cameras", ("CAM_FRONT", "CAM_BACK")), "also wants CAM_BACK"),
        (with_occ3d, "labels are 'surroundocc', the configuration wants 'occ3d'"),
    ],
)
def test_records_of_another_configuration_are_refused(records, change, message):
    _, config, index = records
    config.loss.distill.voxel_kl = 0.0
    change(config)
    with pytest.raises(DataError, match=message):
        train_loader(config, index)


def test_evaluation_does_without_a_teacher_that_was_not_packed(records):
    _, config, index = records
    assert next(eval_loader(config, index, "val", batch_size=1)).teacher is None
    config.data.train_split = "val"
    with pytest.raises(DataError, match="lack 3 of 3 teacher targets of split val"):
        train_loader(config, index)


def test_one_camera_of_several_can_be_read(records, packed):
    _, config, index = records
    config.data.cameras = ("CAM_FRONT_RIGHT",)
    batch = next(eval_loader(config, index, "train", batch_size=1))
    config.data.records_dir = ""
    assert len(leaves(batch)) > 5
    assert_same(batch, next(eval_loader(config, index, "train", batch_size=1)))


def test_records_serve_any_size_and_grid_of_the_model(records):
    _, config, index = records
    config.data.image_height, config.data.image_width = 64, 32
    config.grid.lower_m, config.grid.shape = (-10.0, -15.0, -5.0), (40, 60, 16)
    first = next(eval_loader(config, index, "train", batch_size=1))
    config.data.records_dir = ""
    assert first.images.shape[2:4] == (64, 32) and first.labels.semantics.shape[1:] == (40, 60, 16)
    assert_same(first, next(eval_loader(config, index, "train", batch_size=1)))


def test_a_part_that_was_not_packed_is_missed_only_where_it_is_wanted(packed, tmp_path):
    config = make_config(packed / "nuscenes", **SIZE)
    config.loss.depth = 0.0
    index = load_index(config.data)
    assert not pack_split(config, index, "val", tmp_path, samples_per_shard=8).failures
    config.data.records_dir = str(tmp_path)
    batch = next(make_eval_loader(config, index, "val", Parts(labels=True), batch_size=1))
    assert batch.depth_m is None and batch.labels is not None
    with pytest.raises(DataError, match="holds no LiDAR sweeps.*--config.loss.depth=0"):
        make_eval_loader(config, index, "val", Parts(lidar=True), batch_size=1)
    config.data.train_split, config.data.teacher_dir, config.loss.distill.voxel_kl = "val", "anywhere", 1.0
    with pytest.raises(DataError, match="hold no teacher; pack them again"):
        train_loader(config, index)


def test_records_without_labels_are_read_without(packed, tmp_path):
    config = make_config(packed / "nuscenes", labels_dir=str(tmp_path / "nowhere"), **SIZE)
    index = load_index(config.data)
    assert not pack_split(config, index, "val", tmp_path / "records").failures
    config.data.records_dir = str(tmp_path / "records")
    assert unlabelled_rows(config.data, index.split("val")) == [0, 1, 2]
    assert next(make_eval_loader(config, index, "val", Parts(), batch_size=1)).labels is None
    with pytest.raises(DataError, match="labels are None, the configuration wants 'surroundocc'"):
        make_eval_loader(config, index, "val", Parts(labels=True), batch_size=1)


def test_records_of_an_older_occjax_are_refused_with_the_command_that_packs_again(records):
    folder, config, index = records
    path = folder / "train-00001-of-00003.json"
    content = json.loads(path.read_text())
    content["facts"] = {**content["facts"], "version": 1, "image_width": 640}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="of version 1, this occjax reads version 2; pack again, .*occjax pack"):
        train_loader(config, index)
