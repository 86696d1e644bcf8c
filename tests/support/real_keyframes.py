"""kd.py's recipe on the two real keyframes, with a smaller student, smaller images and the middle of the grid."""

from pathlib import Path

from occjax.config import Config
from occjax.run.overrides import load_config_file


def real_config(shared_dir: Path, folder: Path) -> Config:
    """Three steps; index and teacher files lie in `folder`."""
    config = load_config_file("configs/kd.py")
    config.model.backbone.weights = "random"
    config.grid.lower_m = (-8.0, -8.0, -5.0)
    config.grid.shape = (32, 32, 16)
    config.data.image_height, config.data.image_width = 64, 96
    config.data.workers = 0
    config.model.backbone.depth = 10
    config.model.backbone.width = 8
    config.model.fpn_channels = 8
    config.model.depth.bins = 8
    config.model.depth.channels = 8
    config.model.view_transform.channels = 8
    config.model.bev_encoder.stage_channels = (8, 8)
    config.model.bev_encoder.blocks_per_stage = 1
    config.model.bev_encoder.neck_channels = 8
    config.model.bev_encoder.out_channels = 8
    config.model.head.channels = 8
    config.model.head.hidden = 16
    config.data.root = str(shared_dir / "data" / "nuscenes_real")
    config.data.index_dir = str(folder / "index")
    config.data.teacher_dir = str(folder / "teacher")
    config.data.batch_size = 1
    config.eval.pictures = 1
    config.train.steps = 3
    config.train.checkpoint_every = 2
    config.train.log_every = 1
    config.train.eval_every = 1000
    return config
