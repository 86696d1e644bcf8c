"""One small generated world for all tests of the synthetic city."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes

from occjax.config import SyntheticConfig
from occjax.geometry import transform_from_pose
from occjax.synthetic import generate
from occjax.synthetic.city import City, build_city
from occjax.synthetic.generate import plan_scenes

CONFIG = SyntheticConfig(
    enabled=True, seed=3, train_scenes=1, val_scenes=1, keyframes_per_scene=2, image_width=240, image_height=135
)


@dataclasses.dataclass(frozen=True)
class World:
    root: Path
    config: SyntheticConfig
    nusc: NuScenes
    cities: dict

    def city(self, scene_name: str) -> City:
        """The scene's geometry, built again from its seed."""
        if scene_name not in self.cities:
            plan = next(p for p in plan_scenes(self.root, self.config) if p.name == scene_name)
            self.cities[scene_name] = build_city(np.random.default_rng(plan.seed), plan.config.keyframes_per_scene)
        return self.cities[scene_name]

    def global_from_sensor(self, data_token: str) -> np.ndarray:
        """Through the tables alone, at the sensor's own time stamp."""
        data = self.nusc.get("sample_data", data_token)
        ego = self.nusc.get("ego_pose", data["ego_pose_token"])
        mount = self.nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
        return transform_from_pose(ego["rotation"], ego["translation"]) @ transform_from_pose(
            mount["rotation"], mount["translation"]
        )

    def lidar_points(self, sample: dict) -> np.ndarray:
        data = self.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        return np.fromfile(self.root / data["filename"], np.float32).reshape(-1, 5)

    def surroundocc(self, sample: dict) -> np.ndarray:
        """Dense labels [200, 200, 16] from the list on disk."""
        data = self.nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        rows = np.load(self.root / "surroundocc" / "samples" / (Path(data["filename"]).name + ".npy"))
        dense = np.full((200, 200, 16), 17, np.uint8)
        dense[tuple(rows[:, :3].T)] = rows[:, 3]
        return dense

    def occ3d(self, sample: dict) -> dict[str, np.ndarray]:
        scene = self.nusc.get("scene", sample["scene_token"])["name"]
        with np.load(self.root / "gts" / scene / sample["token"] / "labels.npz") as archive:
            return dict(archive)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("synthetic") / "root"
    generate(root, CONFIG, processes=1)
    return World(root, CONFIG, NuScenes("v1.0-synthetic", str(root), verbose=False), {})
