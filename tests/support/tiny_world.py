"""A tiny configuration of everything: the quickstart with a smaller world, grid, image and student."""

from pathlib import Path

from occjax.config import AugmentConfig, Config, SyntheticConfig
from occjax.run.overrides import load_config_file


def tiny_config(root: Path) -> Config:
    config = load_config_file("configs/quickstart.py")
    config.name = "tiny"
    config.grid.lower_m = (-4.0, -4.0, -5.0)
    config.grid.shape = (16, 16, 16)
    config.data.root = str(root)
    config.data.teacher_dir = str(root / "teacher")
    config.data.image_height, config.data.image_width = 32, 64
    config.data.batch_size = 4
    config.data.workers = 0
    config.data.synthetic = SyntheticConfig(
        enabled=True, train_scenes=2, val_scenes=1, keyframes_per_scene=3, image_width=160, image_height=90
    )
    # Tests compile and hardly compute: every layer costs, however narrow.
    config.model.backbone.depth = 10
    config.model.backbone.width = 8
    config.model.fpn_channels = 8
    config.model.depth.bins = 6
    config.model.depth.channels = 8
    config.model.view_transform.channels = 8
    config.model.bev_encoder.stage_channels = (8, 8)
    config.model.bev_encoder.blocks_per_stage = 1
    config.model.bev_encoder.neck_channels = 8
    config.model.bev_encoder.out_channels = 8
    config.model.head.channels = 8
    config.model.head.hidden = 16
    config.train.steps = 6
    config.train.warmup_steps = 2
    config.train.log_every = 1
    config.train.checkpoint_every = 2
    config.train.eval_every = 1000
    config.eval.pictures = 1
    config.eval.batch_size = 2
    return config


def overfit_config(root: Path) -> Config:
    """One sample, trained and evaluated on; no augmentation, no dropout."""
    config = tiny_config(root)
    config.name = "overfit"
    config.data.synthetic = SyntheticConfig(
        enabled=True, train_scenes=1, val_scenes=1, keyframes_per_scene=1, image_width=320, image_height=180
    )
    config.data.val_split = "train"
    config.data.image_height, config.data.image_width = 96, 160
    config.data.batch_size = 1
    config.augment = AugmentConfig(photometric=False)
    config.model.backbone.depth = 18
    config.model.backbone.width = 16
    config.model.fpn_channels = 32
    config.model.depth.bins = 32
    config.model.depth.max_m = 16.0
    config.model.depth.channels = 32
    config.model.view_transform.channels = 32
    config.model.bev_encoder.stage_channels = (32, 32, 32)
    config.model.bev_encoder.blocks_per_stage = 2
    config.model.bev_encoder.neck_channels = 32
    config.model.bev_encoder.out_channels = 32
    config.model.head.channels = 32
    config.model.head.hidden = 128
    config.train.steps = 300
    config.train.learning_rate = 3e-3
    config.train.warmup_steps = 10
    config.train.log_every = 20
    config.train.checkpoint_every = 1000
    config.eval.batch_size = 1
    config.eval.weights = "ema"
    return config
