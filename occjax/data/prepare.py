"""The synthetic city on disk before training starts: the world itself, then its teacher in our format."""

import logging
from pathlib import Path

from occjax.config import Config
from occjax.data.synthetic import generate

log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Generates the synthetic world and converts its teacher dump, unless that is done or not asked for.

    Raises:
      UserError: data.root holds another world than the configuration describes.
    """
    if not config.data.synthetic.enabled:
        return
    root = Path(config.data.root)
    generate(root, config.data.synthetic, progress=log.info)
