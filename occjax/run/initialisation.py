"""Initialisation of a run: what its weights were before the first step, said at the start and beside every score."""

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from occjax.config import RANDOM, Config
from occjax.models.resnet import require_backbone_weights


class Initialisation(NamedTuple):
    """What the weights of a run started from.

    Attributes:
      kind: "random"; "backbone": random but for the backbone, which is of a file; "student": all of a file.
      file: its name; empty where all is random.
      sha256: of its bytes, hexadecimal.
    """

    kind: Literal["random", "backbone", "student"]
    file: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        if self.kind == "random":
            return "random weights"
        return f"{self.kind} {self.file}, sha256 {self.sha256[:12]}"


# Of a run that an earlier version began.
NOT_RECORDED = "weights that were not recorded"


def configured_initialisation(config: Config) -> Initialisation:
    """What a run with this configuration starts from; reads the file of backbone weights, if there is one.

    Raises:
      BackboneWeightsError: that file is absent.
    """
    backbone = config.model.backbone
    if backbone.weights == RANDOM:
        return Initialisation("random")
    require_backbone_weights(backbone)
    return of_file("backbone", Path(backbone.weights))


def of_file(kind: Literal["backbone", "student"], path: Path) -> Initialisation:
    """Weights that come from a file, which is read whole for its checksum; raises OSError."""
    with path.open("rb") as file:
        return Initialisation(kind, path.name, hashlib.file_digest(file, "sha256").hexdigest())


def said_of(stored: dict[str, Any] | None) -> str:
    """An initialisation as config.json and metrics.json hold it, in words; None where nothing is known."""
    try:
        return NOT_RECORDED if stored is None else str(Initialisation(**stored))
    except TypeError:  # by somebody's hand
        return NOT_RECORDED
