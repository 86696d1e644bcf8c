"""A generated root is a nuScenes root, depends on its configuration alone, and never overwrites anything."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from occjax.config import NUSCENES_CAMERAS, SyntheticConfig
from occjax.errors import DataError
from occjax.synthetic import generate
from occjax.synthetic.__main__ import main

TINY = SyntheticConfig(
    enabled=True, seed=5, train_scenes=1, val_scenes=1, keyframes_per_scene=1, image_width=32, image_height=32
)


def digests(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


def test_tables_are_complete_and_linked(world):
    nusc, config = world.nusc, world.config
    assert sorted(p.stem for p in (world.root / "v1.0-synthetic").glob("*.json")) == sorted(nusc.table_names)
    keyframes = (config.train_scenes + config.val_scenes) * config.keyframes_per_scene
    assert len(nusc.sample) == keyframes and len(nusc.sample_data) == 7 * keyframes
    for table in nusc.table_names:
        tokens = [row["token"] for row in getattr(nusc, table)]
        assert tokens and len(set(tokens)) == len(tokens)
    for scene in nusc.scene:
        token, stamps = scene["first_sample_token"], []
        while token:
            stamps.append(nusc.get("sample", token)["timestamp"])
            last, token = token, nusc.get("sample", token)["next"]
        assert last == scene["last_sample_token"] and len(stamps) == scene["nbr_samples"]
        assert set(np.diff(stamps)) == {500_000}
    splits = json.loads((world.root / "splits.json").read_text())
    assert {k: len(v) for k, v in splits.items()} == {"train": config.train_scenes, "val": config.val_scenes}
    assert sorted(splits["train"] + splits["val"]) == sorted(s["name"] for s in nusc.scene)


def test_each_sensor_has_its_own_time_and_pose(world):
    nusc = world.nusc
    for sample in nusc.sample:
        rows = [nusc.get("sample_data", token) for token in sample["data"].values()]
        assert len({row["timestamp"] for row in rows}) == 7
        assert nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["timestamp"] == sample["timestamp"]
        for row in rows:
            assert nusc.get("ego_pose", row["ego_pose_token"])["timestamp"] == row["timestamp"]
            assert (world.root / row["filename"]).is_file()
            if row["channel"] in NUSCENES_CAMERAS:
                with Image.open(world.root / row["filename"]) as image:
                    assert image.size == (row["width"], row["height"])
        poses = {tuple(nusc.get("ego_pose", row["ego_pose_token"])["translation"]) for row in rows}
        assert len(poses) in (1, 7)  # standing, or all different
    assert any(
        len({tuple(nusc.get("ego_pose", nusc.get("sample_data", t)["ego_pose_token"])["translation"]) for t in tokens})
        > 1
        for tokens in (s["data"].values() for s in nusc.sample)
    )


@pytest.mark.slow
def test_devkit_draws_it(world, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sample = world.nusc.sample[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's own
        for channel in ("CAM_FRONT", "LIDAR_TOP"):
            world.nusc.render_sample_data(
                sample["data"][channel],
                out_path=str(tmp_path / channel),
                underlay_map=np.__version__ < "2",  # the devkit's cropping of the map fails with numpy 2.4
                verbose=False,
            )
        world.nusc.render_pointcloud_in_image(
            sample["token"], camera_channel="CAM_BACK", out_path=str(tmp_path / "points"), verbose=False
        )
        plt.close("all")
    assert all((tmp_path / f"{name}.png").stat().st_size > 10_000 for name in ("CAM_FRONT", "LIDAR_TOP", "points"))


def test_ego_drives_on_the_map(world):
    """The map's mask holds the carriageway under the ego: a flipped map would not."""
    for scene in world.nusc.scene:
        log = world.nusc.get("log", scene["log_token"])
        mask = world.nusc.get("map", log["map_token"])["mask"]
        sample = world.nusc.get("sample", scene["first_sample_token"])
        position = world.global_from_sensor(sample["data"]["LIDAR_TOP"])[:2, 3]
        assert mask.is_on_mask(position[:1], position[1:])[0]
        semantics = world.occ3d(sample)["semantics"][::8, ::8]
        x, y = np.nonzero((semantics == 14).any(axis=2))
        assert len(x) == 0 or not mask.is_on_mask(*_global(world, sample, x * 8, y * 8)).all()


def _global(world, sample, x, y):
    lidar = world.global_from_sensor(sample["data"]["LIDAR_TOP"])
    forward = lidar[:2, 1]
    ego = np.stack([-40 + (x + 0.5) * 0.4 - 0.94, -40 + (y + 0.5) * 0.4], axis=-1)
    return (ego @ np.array([forward, [-forward[1], forward[0]]]) + lidar[:2, 3]).T


def test_bytes_depend_on_the_seed_and_not_on_the_processes(tmp_path):
    lines = []
    generate(tmp_path / "one", TINY, processes=1, progress=lines.append)
    generate(tmp_path / "two", TINY, processes=2)
    one = digests(tmp_path / "one")
    assert one == digests(tmp_path / "two")
    assert len(lines) == 2 and "2/2 scenes" in lines[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]  # nothing temporary stays

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*")}
    generate(tmp_path / "one", TINY)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*")}
    with pytest.raises(DataError, match=r"seed 5 there, 6 wanted.*delete the folder"):
        generate(tmp_path / "one", dataclasses.replace(TINY, seed=6))
    assert digests(tmp_path / "one") == one


def test_foreign_folders_stay_untouched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"never overwrites other data"):
        generate(tmp_path / "mine", TINY)
    (tmp_path / "mine" / "synthetic.json").write_text("{not json")
    with pytest.raises(DataError, match=r"not readable"):
        generate(tmp_path / "mine", TINY)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "root", TINY, processes=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_senseless_numbers_are_all_named(tmp_path):
    config = dataclasses.replace(TINY, train_scenes=0, image_width=8)
    with pytest.raises(
        DataError, match=r"train_scenes must be at least 1, not 0; image_width must be at least 32, not 8"
    ):
        generate(tmp_path / "root", config)


def test_command_line(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main([f"--output={tmp_path / 'full'}"]) == 2
    assert "error: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and "--keyframes" in capsys.readouterr().out


def test_generation_imports_no_jax():
    code = "import sys, occjax.synthetic.scene; sys.exit('jax' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
