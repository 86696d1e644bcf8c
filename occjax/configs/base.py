"""Defaults of every field, in the order of the data flow; the other configurations call this and assign.

occjax --config=configs/base.py --workdir=runs/base

Full size, supervised, without geometric augmentation. Nobody has trained it: hours, memory and scores are unknown.
"""

from occjax.config import Config


def get_config() -> Config:
    return Config()
