"""Our recipe at full size: nuScenes, SurroundOcc labels, distilled from GaussianFormer-2."""

from occjax.config import Config
from occjax.configs import base


def get_config() -> Config:
    config = base.get_config()
    config.name = "kd"
    config.data.teacher_dir = "data/teacher"
    config.data.batch_size = 1
    config.augment.image_scale = (0.94, 1.11)
    config.augment.image_rotate_deg = 5.4
    config.augment.image_flip = True
    config.augment.bev_rotate_deg = 22.5
    config.augment.bev_scale = (0.95, 1.05)
    config.augment.bev_flip_x = True
    config.augment.bev_flip_y = True
    config.loss.distill.voxel_kl = 3.0
    config.loss.distill.bev_kl = 1.0
    config.loss.distill.channel_wise = 1.0
    config.loss.distill.bev_feature = 0.1
    config.train.learning_rate = 1e-4
    return config
