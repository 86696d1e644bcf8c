"""Control of kd.py: the same data, model and schedule without the teacher.

occjax --config=configs/supervised.py --workdir=runs/supervised

Cost: no measurement of its own; a step does without the teacher's losses, or else is that of kd.py. Expect: no table
yet, as for kd.py.
"""

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
