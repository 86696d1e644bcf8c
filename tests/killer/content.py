"""Content of a folder that some work fills, as far as two runs of the same work agree on it."""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np

from occjax.run_config import load_config
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints
from occjax.train.learner import abstract_state, make_learner

_CHECKPOINTS = ("checkpoints", "best")
# What differs: how long it took, and what one of several runs has written by itself.
_TIMES = ("time/", "samples_per_s", "step_s", "model_tflop_per_s")
_OF_ONE_RUN = ("mean_kl_nats", "bytes_per_sample")


def content_of(folder: Path) -> dict[str, str]:
    """A digest of each file by its name; of the newest checkpoint's arrays in the place of its files."""
    content = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # Event files are named by the second, and parts of a checkpoint at random.
        if path.is_file() and name.split("/")[0] not in ("tensorboard", ".lock", *_CHECKPOINTS):
            content[name] = _digest_of(path, folder)
    return content | (_checkpoint_of(folder) if (folder / "checkpoints").exists() else {})


def _digest_of(path: Path, folder: Path) -> str:
    data = path.read_bytes()
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in data.decode().splitlines()]
        kept = [{name: value for name, value in line.items() if not name.startswith(_TIMES)} for line in lines]
        data = json.dumps(kept).encode()
    elif path.name in ("manifest.json", "config.json"):
        kept = {name: value for name, value in json.loads(data).items() if name not in _OF_ONE_RUN}
        data = json.dumps(kept, sort_keys=True).replace(str(folder), "").encode()
    return hashlib.sha256(data).hexdigest()


def _checkpoint_of(workdir: Path) -> dict[str, str]:
    """Digests of every array of the newest checkpoint, its data position, and which folders there are."""
    folders = sorted(str(path.relative_to(workdir)) for name in _CHECKPOINTS for path in (workdir / name).iterdir())
    config = load_config(workdir)
    checkpoints = Checkpoints(workdir)
    state, position = checkpoints.restore(abstract_state(make_learner(config, config.train.steps)), make_mesh())
    checkpoints.close()
    arrays = {
        jax.tree_util.keystr(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    return {"folders": str(folders), "data position": json.dumps(position, sort_keys=True), **arrays}
