"""The index: order, transforms by hand and against the golden, cache, splits, errors, size."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from nuscenes_root import DEFAULT_SCENES, token, write_root
from pinhole import project_points

from occjax.config import NUSCENES_CAMERAS, DataConfig
from occjax.data import index as index_module
from occjax.data import tables
from occjax.data.index import load_index
from occjax.errors import DataError
from occjax.geometry import transform_points


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("index") / "nuscenes")


def test_samples_are_ordered_by_scene_token_then_time(root):
    split = load_index(DataConfig(root=str(root))).split("train")
    by_token = sorted(name for name in DEFAULT_SCENES if name != "scene-0003")
    by_token.sort(key=token)
    assert split.scene_names == [name for name in by_token for _ in range(DEFAULT_SCENES[name])]
    assert split.tokens == [token(name, frame) for name in by_token for frame in range(DEFAULT_SCENES[name])]
    assert split.frame_index.tolist() == [f for name in by_token for f in range(DEFAULT_SCENES[name])]
    assert np.all(np.diff(split.timestamp_us.reshape(-1)[: DEFAULT_SCENES[by_token[0]]]) == 500_000)
    for row in range(len(split)):
        rows = split.scene_rows(row)
        assert {split.scene_names[r] for r in range(rows.start, rows.stop)} == {split.scene_names[row]}
        assert rows.stop - rows.start == DEFAULT_SCENES[split.scene_names[row]]


def test_transforms_use_each_sensors_own_timestamp(root):
    split = load_index(DataConfig(root=str(root))).split("val")
    # 10 m straight ahead of the ego at keyframe time, at camera height. Camera i was 0.1·(i + 1) m further back.
    for camera in range(2):
        ahead_in_cam = [0, 0, 10 + 0.1 * (camera + 1)]
        in_ego = transform_points(split.cam_from_ego[1, camera], np.array([10.0, 0, 1.5]))
        np.testing.assert_allclose(in_ego, ahead_in_cam, atol=1e-5)
        # LIDAR_TOP: x right, y ahead, 0.3 m above the cameras.
        in_lidar = transform_points(split.cam_from_lidar[1, camera], np.array([0, 10.0, -0.3]))
        np.testing.assert_allclose(in_lidar, ahead_in_cam, atol=1e-5)
        # One metre to the right is camera x; 60 px of focal length from the principal point.
        right = transform_points(split.cam_from_lidar[1, camera], np.array([1, 9.9 - 0.1 * camera, -0.3]))
        pixel, depth = project_points(split.pixel_from_cam[1, camera], right)
        np.testing.assert_allclose([*pixel, depth], [48 + 6, 32, 10], atol=1e-4)
    # The ego of frame 1 stands 10 m/s · 1.5 s along global x; the LiDAR above it, its y along global x.
    np.testing.assert_allclose(split.global_from_ego[1, :3, 3], [1015, 2000, 0])
    ahead = transform_points(split.global_from_lidar[1], np.array([0, 1.0, 0]))
    np.testing.assert_allclose(ahead, [1016, 2000, 1.8], atol=1e-9)


def test_transforms_match_the_golden(shared_dir, tmp_path):
    golden = np.load(shared_dir / "goldens/student_b_seed7.npz")
    data = DataConfig(root=str(shared_dir / "data/nuscenes_real"), index_dir=str(tmp_path))
    split = load_index(data).split("val")
    assert split.tokens[0].startswith(str(golden["keyframe"]).split("_")[1])
    assert split.cameras == NUSCENES_CAMERAS
    np.testing.assert_allclose(split.cam_from_lidar[0], golden["lidar2cam"], atol=1e-5)
    np.testing.assert_allclose(split.pixel_from_cam[0], golden["K"], rtol=1e-6)


def test_second_load_reads_the_cache_only(root, monkeypatch):
    first = load_index(DataConfig(root=str(root)))
    monkeypatch.setattr(tables, "read_tables", lambda *_: pytest.fail("tables were read again"))
    second = load_index(DataConfig(root=str(root)))
    for name in index_module._ROW_ARRAYS:
        np.testing.assert_array_equal(getattr(first.everything, name), getattr(second.everything, name))
    assert first.splits == second.splits
    script = (
        "import sys; from occjax.config import DataConfig; from occjax.data.index import load_index\n"
        f"load_index(DataConfig(root={str(root)!r})).split('val')\n"
        "print('nuscenes' in sys.modules, 'jax' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize("damage", ["truncated", "no zip", "other tables", "other schema"])
def test_unusable_cache_is_built_again_with_a_message(tmp_path, damage, caplog, monkeypatch):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 1})
    expected = load_index(DataConfig(root=str(root))).split("train").tokens
    cache = root / "occjax_index/v1.0-trainval.npz"
    if damage == "truncated":
        cache.write_bytes(cache.read_bytes()[:-200])
    elif damage == "no zip":
        cache.write_bytes(b"half a file")
    elif damage == "other tables":
        table = root / "v1.0-trainval/scene.json"
        table.write_text(table.read_text() + " ")
    else:
        monkeypatch.setattr(index_module, "SCHEMA_VERSION", 99)
    with caplog.at_level(logging.INFO):
        assert load_index(DataConfig(root=str(root))).split("train").tokens == expected
    assert "building it again" in caplog.text
    caplog.clear()
    load_index(DataConfig(root=str(root)))
    assert not caplog.text
    assert [p.name for p in cache.parent.iterdir()] == [cache.name]


def test_unwritable_folder_falls_back(tmp_path, caplog):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 1})
    (tmp_path / "file").write_text("")
    data = DataConfig(root=str(root), index_dir=str(tmp_path / "file/index"))
    load_index(data, fallback_dir=tmp_path / "workdir")
    assert (tmp_path / "workdir/v1.0-trainval.npz").is_file()
    with caplog.at_level(logging.WARNING):
        load_index(data)
    assert "data.index_dir" in caplog.text


def test_custom_splits(tmp_path):
    root = write_root(tmp_path / "root")
    (root / "splits.json").write_text(json.dumps({"train": ["scene-0003"], "mine": ["scene-0055", "scene-0061"]}))
    index = load_index(DataConfig(root=str(root)))
    assert set(index.split("train").scene_names) == {"scene-0003"}
    assert len(index.split("mine")) == 5
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"train": ["scene-0061"]}))
    index = load_index(DataConfig(root=str(root), splits_file=str(other)))
    assert set(index.split("train").scene_names) == {"scene-0061"}
    other.write_text(json.dumps({"train": ["scene-0061", "scene-9999"]}))
    with pytest.raises(DataError, match="1 scenes that the tables lack, first scene-9999"):
        load_index(DataConfig(root=str(root), splits_file=str(other)))
    other.write_text('["scene-0061"]')
    with pytest.raises(DataError, match="must be JSON"):
        load_index(DataConfig(root=str(root), splits_file=str(other)))
    with pytest.raises(DataError, match="does not exist"):
        load_index(DataConfig(root=str(root), splits_file=str(tmp_path / "absent.json")))


def test_clear_errors(tmp_path, root):
    with pytest.raises(DataError, match="quickstart"):
        load_index(DataConfig(root=str(tmp_path / "absent")))
    with pytest.raises(DataError, match="v1.0-mini is not in .*; found v1.0-trainval"):
        load_index(DataConfig(root=str(root), version="v1.0-mini"))
    with pytest.raises(DataError, match=r"split 'tarin' .* train \(2 scenes\)"):
        load_index(DataConfig(root=str(root))).split("tarin")
    broken = write_root(tmp_path / "broken", scenes={"scene-0061": 1})
    (broken / "v1.0-trainval/ego_pose.json").unlink()
    with pytest.raises(DataError, match="lacks ego_pose.json"):
        load_index(DataConfig(root=str(broken)))
    (broken / "v1.0-trainval/ego_pose.json").write_text("[{")
    with pytest.raises(DataError, match="it is no JSON"):
        load_index(DataConfig(root=str(broken)))


def test_missing_camera_record(tmp_path):
    root = write_root(tmp_path / "root", scenes={"scene-0061": 2}, dropped=(("scene-0061", 1, "CAM_FRONT_RIGHT"),))
    split = load_index(DataConfig(root=str(root))).split("train")
    assert [[bool(name) for name in row] for row in split.camera_file] == [[True, True], [True, False]]
    np.testing.assert_array_equal(split.cam_from_lidar[1, 1], np.eye(4))
    assert split.camera_columns(("CAM_FRONT_RIGHT", "CAM_FRONT")) == [1, 0]
