"""The defaults as they stand in occjax/config.py, and nothing else; the other configurations call this and assign.

occjax --mode=config --config=configs/base.py
occjax --config=configs/base.py --workdir=runs/base

The first line prints every field with its meaning and value. Full size, supervised, without geometric augmentation.
Nobody has trained it: hours, memory and scores are unknown.
"""

from occjax.config import Config


def get_config() -> Config:
    return Config()
