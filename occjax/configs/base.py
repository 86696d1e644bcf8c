"""Every default, in the order of the data flow; the other configurations call this and assign."""

from occjax.config import Config


def get_config() -> Config:
    return Config()
