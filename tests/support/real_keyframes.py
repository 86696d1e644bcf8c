"""kd.py's recipe on the two real keyframes, with a smaller student, smaller images and the middle of the grid."""

from pathlib import Path

from occjax.benchmark.accelerator import small_config
from occjax.config import Config


def real_config(shared_dir: Path, folder: Path) -> Config:
    """Three steps; index and teacher files lie in `folder`."""
    config = small_config()
    config.data.workers = 0
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
