"""occjax: camera-only 3D semantic occupancy, distilled from a large teacher into a small BEV student, in JAX.

To use a trained run from Python: `load` gives a predictor, `Rig`, `read_calibration` and `nuscenes_frame` say where the
cameras look. They are imported when they are first asked for; `import occjax` itself loads no jax.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from occjax.predict.calibration import read_calibration as read_calibration
    from occjax.predict.load import load as load
    from occjax.predict.nuscenes_frame import nuscenes_frame as nuscenes_frame
    from occjax.predict.rig import Rig as Rig

__version__ = "0.1.0"
_LAZY = {
    "load": "occjax.predict.load",
    "Rig": "occjax.predict.rig",
    "read_calibration": "occjax.predict.calibration",
    "nuscenes_frame": "occjax.predict.nuscenes_frame",
}


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'occjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
