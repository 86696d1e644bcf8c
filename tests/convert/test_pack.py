"""Packing: whole shards or none, resumed, shared among jobs and processes, and clear about what stops it."""

import multiprocessing
from pathlib import Path

import pytest
from loading import make_config
from nuscenes_root import write_root

from occjax.convert.pack import pack_split
from occjax.data.index import load_index
from occjax.errors import DataError, UserError


@pytest.fixture
def config(tmp_path):
    return make_config(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 5}))


def pack(config, output, **options):
    return pack_split(config, load_index(config.data), "train", output, samples_per_shard=2, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_jobs_and_processes_write_the_same_shards_together(config, tmp_path):
    lines = []
    whole = pack(config, tmp_path / "whole", progress=lines.append)
    assert (whole.written, whole.kept, whole.failures, len(lines)) == (5, 0, [], 3)
    assert whole.bytes_written == sum(p.stat().st_size for p in (tmp_path / "whole").glob("*.array_record"))
    assert "5/5 samples" in lines[-1] and "MB each" in lines[-1]
    for part, count in ((0, 3), (1, 2)):
        assert pack(config, tmp_path / "shared", part=(part, 2), workers=2).written == count
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_a_second_run_writes_what_is_missing(config, tmp_path):
    output = tmp_path / "out"
    index = load_index(config.data)
    split = index.split("train")
    image = split.root / split.camera_file[3, 0].decode()
    sound = image.read_bytes()
    image.write_bytes(sound[:200])
    first = pack(config, output)
    ((name, reason),) = first.failures
    assert (first.written, name) == (3, "train-00001-of-00003")
    assert str(image) in reason and split.tokens[3] in reason and "truncated" in reason
    assert sorted(contents(output)) == [
        f"train-0000{n}-of-00003.{suffix}" for n in (0, 2) for suffix in ("array_record", "json")
    ]
    image.write_bytes(sound)
    # What a job that was killed leaves behind goes with the next one.
    (output / ".train-00001-of-00003.array_record.77.tmp").write_bytes(b"half")
    before = contents(output)
    second = pack(config, output)
    assert (second.written, second.kept, second.failures) == (2, 3, [])
    after = contents(output)
    assert len(after) == 6 and all(before[name] == after.get(name, before[name]) for name in before)
    # A shard that was cut afterwards is written again.
    shard = output / "train-00000-of-00003.array_record"
    shard.write_bytes(after[shard.name][:-1])
    assert pack(config, output).written == 2
    assert contents(output) == after


def test_what_was_packed_otherwise_is_not_mixed_in(config, tmp_path):
    output = tmp_path / "out"
    pack(config, output)
    index = load_index(config.data)
    with pytest.raises(DataError, match="another number of shards than 2, such as train-00000-of-00003.json"):
        pack_split(config, index, "train", output, samples_per_shard=4)
    # A split whose name begins alike is another one.
    (output / "train-00000-of-00003.json").rename(output / "train-night-00000-of-00007.json")
    assert pack(config, output).written == 2
    config.data.image_width = 64  # which no record depends on
    assert pack(config, output).kept == 5
    config.loss.depth = 0.0
    with pytest.raises(DataError, match="packed with another configuration .lidar True, now False"):
        pack(config, output)
    config.data.records_dir = str(output)
    with pytest.raises(UserError, match="leave data.records_dir empty"):
        pack(config, tmp_path / "other")


def test_a_process_that_dies_is_reported_and_finished_shards_stay(tmp_path):
    # So many that no process is through with them before the first one is heard of.
    config = make_config(write_root(tmp_path / "nuscenes", scenes={"scene-0061": 40}))
    killed = []

    def kill(_):
        for process in multiprocessing.active_children():
            process.kill()  # which says nothing where the pool has already collected the process
            killed.append(process.pid)

    with pytest.raises(DataError, match="a packing process died.*fewer --workers"):
        pack_split(
            config, load_index(config.data), "train", tmp_path / "out", samples_per_shard=1, workers=2, progress=kill
        )
    assert killed
    assert list((tmp_path / "out").glob("train-*.json"))


def test_a_folder_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder .*choose another --output"):
        pack(config, tmp_path / "file" / "out")


def test_absent_files_stop_it_before_it_begins(config, tmp_path):
    split = load_index(config.data).split("train")
    (split.root / split.lidar_file[4].decode()).unlink()
    with pytest.raises(DataError, match=f"1 of 5 LiDAR sweeps, tokens {split.tokens[4]}"):
        pack(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_record_holds_the_bytes_of_the_files_and_little_more(config, tmp_path):
    pack_split(config, load_index(config.data), "train", tmp_path / "out")
    split = load_index(config.data).split("train")
    root = split.root
    files = [root / name.decode() for row in range(5) for name in (*split.camera_file[row], split.lidar_file[row])]
    files += [root / "surroundocc/samples" / f"{Path(name.decode()).name}.npy" for name in split.lidar_file]
    (shard,) = (tmp_path / "out").glob("*.array_record")
    content = shard.read_bytes()
    assert all(file.read_bytes()[-64:] in content for file in files)
    sizes = sum(file.stat().st_size for file in files)
    assert sizes < shard.stat().st_size < 1.01 * sizes + 2 * 65536  # ArrayRecord fills its last blocks
