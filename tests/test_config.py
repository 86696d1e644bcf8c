"""Every configuration builds, holds together, and wrong values are named with a remedy."""

import pytest

from occjax.config import Config
from occjax.overrides import load_config_file

CONFIGS = ("base", "kd", "supervised", "original", "quickstart", "quickstart.py:supervised")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_holds_together(name):
    path = f"configs/{name}" if ".py" in name else f"configs/{name}.py"
    assert load_config_file(path).problems() == []


def test_controls_differ_from_their_distilled_twins_in_the_teacher_only():
    for control, distilled in (
        ("configs/supervised.py", "configs/kd.py"),
        ("configs/quickstart.py:supervised", "configs/quickstart.py"),
    ):
        one, other = load_config_file(control), load_config_file(distilled)
        assert not one.loss.distill.is_on
        assert other.loss.distill.is_on
        one.loss.distill, one.data.teacher_dir, one.name = other.loss.distill, other.data.teacher_dir, other.name
        assert one == other


def changed(path: str, value) -> list[str]:
    config = Config()
    *sections, name = path.split(".")
    holder = config
    for section in sections:
        holder = getattr(holder, section)
    setattr(holder, name, value)
    return config.problems()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data.image_height", 481, "use 480"),
        ("data.labels", "kitti", "surroundocc, occ3d"),
        ("data.labels", "occ3d", "ego frame but grid.frame=lidar"),
        ("grid.voxel_size_m", 0.0, "voxel size must be positive"),
        ("model.backbone.depth", 101, "18, 34 or 50"),
        ("model.view_transform.splat", "max", "sum, mean"),
        ("model.depth.max_m", 0.1, "min_m < max_m"),
        ("data.cameras", ("CAM_FRONT,CAM_BACK",), "name cameras as"),
        ("data.batch_size", 0, "at least 1"),
        ("loss.distill.voxel_kl", 1.0, "silently off"),
    ],
)
def test_wrong_values_are_named(path, value, expected):
    problems = changed(path, value)
    assert len(problems) == 1, problems
    assert expected in problems[0]
