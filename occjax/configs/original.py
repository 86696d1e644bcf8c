"""The PyTorch original's architecture and recipe, for imported weights and for comparison."""

from occjax.config import Config
from occjax.configs import base


def get_config() -> Config:
    config = base.get_config()
    config.name = "original"
    config.model.backbone.frozen_stages = 2
    config.model.backbone.frozen_batch_norm = True
    config.model.depth.bins = 16
    config.model.view_transform.splat = "mean"
    config.loss.scene_class_affinity = 0.0
    config.loss.lovasz = 0.0
    config.loss.class_counts = "occ3d"
    config.loss.distill.voxel_kl = 1.0
    config.loss.distill.bev_kl = 0.5
    config.data.teacher_dir = "data/teacher"
    config.train.epochs = 12
    config.train.learning_rate = 1e-4
    return config
