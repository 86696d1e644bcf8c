"""Every configuration builds, holds together, and wrong values are named with a remedy."""

import re
from operator import attrgetter

import pytest
from config_fields import plain_fields

from occjax.config import Config, closed_sets
from occjax.config_checks import problems
from occjax.config_rules import rules
from occjax.grid import OCC3D_GRID, SURROUNDOCC_GRID
from occjax.run.overrides import apply_overrides, load_config_file

CONFIGS = (
    "base",
    "kd",
    "supervised",
    "original",
    "quickstart",
    "quickstart.py:supervised",
    "realtime",
    "realtime.py:city",
)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_holds_together(name):
    path = f"configs/{name}" if ".py" in name else f"configs/{name}.py"
    assert problems(load_config_file(path)) == []


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
    return problems(config)


def test_a_run_has_checkpoints_by_steps_or_by_the_clock():
    config = Config()
    config.train.checkpoint_every = 0
    assert problems(config) == []
    config.train.checkpoint_minutes = 0
    (problem,) = problems(config)
    assert "both 0" in problem and "--config.train.checkpoint_minutes=15" in problem
    config.train.checkpoint_every = 500
    assert problems(config) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("data.image_height", 481, "use 480"),
        ("data.labels", "kitti", "surroundocc, occ3d"),
        ("data.labels", "occ3d", "ego frame but grid.frame=lidar"),
        ("grid.voxel_size_m", 0.0, "voxel size must be positive"),
        ("model.backbone.depth", 101, "18, 34, 50"),
        ("model.view_transform.splat", "max", "sum, mean"),
        ("model.depth.max_m", 0.1, "min_m < max_m"),
        ("model.view_transform.cell_voxels", 3, "does not divide the 200 × 200 columns of the grid; set 1"),
        ("model.view_transform.cell_voxels", 0, "at least 1"),
        ("model.head.activation", "gelu", "softplus, relu"),
        ("data.cameras", ("CAM_FRONT,CAM_BACK",), "name cameras as"),
        ("data.cameras", ("CAM_FRONT", "CAM_BACK", "CAM_FRONT"), "names CAM_FRONT more than once"),
        ("data.batch_size", 0, "at least 1"),
        ("loss.distill.voxel_kl", 1.0, "silently off"),
        ("augment.bev_scale", (1.0,), "two positive numbers, the smaller first, not (1.0,)"),
        ("augment.bev_scale", (1.1, 0.9), "the smaller first"),
        ("augment.image_scale", (0.0, 1.0), "two positive numbers"),
        ("train.checkpoint_minutes", float("nan"), "0 or more and finite, not nan"),
        ("train.steps", -5, "train.steps must be 0 or more, not -5"),
        ("train.epochs", 0, "at least 1"),
        ("train.learning_rate", 0.0, "above 0"),
        ("loss.depth", -1.0, "loss.depth must be 0 or more"),
        ("loss.distill.bev_kl", -1.0, "loss.distill.bev_kl must be 0 or more"),
        ("loss.distill.temperature", float("nan"), "above 0"),
        ("loss.distill.free_share", 1.5, "0 to 1"),
        ("train.ema_samples", 0, "at least 1"),
        ("model.depth.dropout", 1.0, "below 1"),
        ("train.clip_norm", 0.0, "above 0 and finite, not 0.0; for hardly any clipping"),
        ("train.clip_norm", -1.0, "above 0"),
        ("train.clip_norm", float("inf"), "such as 1e6"),
        ("train.keep_checkpoints", 0, "at least 1, not 0; a run resumes from the newest one"),
        ("train.weight_decay", -0.1, "0 or more"),
        ("train.warmup_steps", -1, "0 or more"),
        ("train.warmup_factor", 1.5, "0 to 1"),
        ("train.learning_rate", float("inf"), "finite"),
        ("train.steps", 2**31, "0 to 2147483647"),
        ("data.prefetch", 0, "at least 1"),
        ("data.max_skipped", 0, "data.on_error=raise"),
        ("data.val_split", " ", "a text that is not empty"),
        ("data.synthetic.image_width", 16, "at least 32"),
        ("model.backbone.width", 0, "at least 1"),
        ("model.backbone.frozen_stages", 9, "0 to 5, not 9"),
        ("model.depth.max_m", float("inf"), "min_m < max_m, finite"),
        ("model.bev_encoder.stage_channels", (), "for each stage"),
        ("model.bev_encoder.stage_channels", (32, 0), "for each stage"),
        ("augment.bev_rotate_deg", -5.0, "0 to 180"),
        ("augment.image_scale", (1.0, float("inf")), "two positive numbers"),
        ("loss.depth", float("inf"), "finite"),
        ("eval.pictures", -1, "0 or more"),
    ],
)
def test_wrong_values_are_named(path, value, expected):
    problems = changed(path, value)
    assert len(problems) == 1, problems
    assert expected in problems[0]


def test_every_field_has_a_rule():
    # Grid, cameras and image sizes have their own in config_checks, and switches only two values.
    elsewhere = {"grid.lower_m", "grid.voxel_size_m", "grid.shape", "data.cameras", "data.labels", "loss.class_counts"}
    elsewhere |= {"data.image_height", "data.image_width", "model.depth.min_m", "model.depth.max_m", *closed_sets()}
    # Empty means something of its own, and any text is a path.
    paths = {f"data.{name}" for name in ("splits_file", "labels_dir", "teacher_dir", "records_dir", "index_dir")}
    switches = {path for path in plain_fields() if isinstance(attrgetter(path)(Config()), bool)}
    ruled = [path for rule in rules(Config()) for path in rule.paths]
    assert len(ruled) == len(set(ruled))
    assert set(ruled) | elsewhere | paths | switches == set(plain_fields())
    assert not set(ruled) & (elsewhere | paths | switches)


def test_a_run_without_any_loss_is_refused():
    config = Config()
    for name in config.loss.weight_fields():
        setattr(config.loss, name, 0.0)
    (problem,) = problems(config)
    assert "nothing would be learned" in problem and "--config.loss.cross_entropy=1" in problem
    config.loss.depth = 1.0
    assert problems(config) == []


@pytest.mark.parametrize(("labels", "grid"), [("occ3d", OCC3D_GRID), ("surroundocc", SURROUNDOCC_GRID)])
def test_labels_in_another_frame_are_answered_with_overrides_that_work(labels, grid):
    config = Config()
    config.data.labels = labels
    config.grid.frame = {"lidar": "ego", "ego": "lidar"}[grid.frame]
    config.grid.shape = (8, 8, 8)
    (problem,) = problems(config)
    flags = re.findall(r"--config\.grid\.\w+=[^\s\"]+", problem)
    config = apply_overrides(config, flags)
    assert problems(config) == [] and config.grid.build() == grid


@pytest.mark.parametrize(
    ("batch", "samples", "decay"), [(8, 8000, 0.999), (2, 100, 0.98), (1, 8000, 0.999875), (8, 8, 0.0), (9, 8, 0.0)]
)
def test_the_average_remembers_samples_whatever_the_batch(batch, samples, decay):
    config = Config()
    config.data.batch_size, config.train.ema_samples = batch, samples
    assert config.ema_decay == pytest.approx(decay, abs=1e-12)


def test_the_recipes_say_what_the_backbone_starts_from():
    weights = {name: load_config_file(f"configs/{name}.py").model.backbone.weights for name in ("kd", "original")}
    assert weights == {"kd": "data/weights/resnet50.npz", "original": "random"}
    assert Config().train.ema_samples == 8000 and load_config_file("configs/quickstart.py").train.ema_samples == 150
