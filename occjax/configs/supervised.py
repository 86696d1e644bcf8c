"""The control of kd.py: the same data, model and schedule without the teacher."""

from occjax.config import Config
from occjax.configs import kd


def get_config() -> Config:
    config = kd.get_config()
    config.name = "supervised"
    return without_teacher(config)


def without_teacher(config: Config) -> Config:
    """Switches every distillation term off."""
    config.data.teacher_dir = ""
    config.loss.distill.switch_off()
    return config
