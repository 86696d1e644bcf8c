"""Parts of a sample that training reads, as the loss weights ask for them."""

from occjax.config import Config
from occjax.data.parts import Parts
from occjax.targets.reader import open_teacher


def training_parts(config: Config) -> Parts:
    """LiDAR where depth is supervised, labels, and the teacher where a distillation term has a weight.

    Raises:
      As `occjax.targets.reader.open_teacher`.
    """
    loss = config.loss
    return Parts(lidar=loss.depth > 0, labels=True, teacher=open_teacher(config) if loss.distill.is_on else None)
