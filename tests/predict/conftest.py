"""An untrained student on the tiny world, as a run left it, and its predictor: compiled once for all that use it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_world import tiny_config

import occjax
from occjax.data.index import load_index
from occjax.models.student import Student, split_student
from occjax.run.workdir import open_workdir
from occjax.run_config import load_config
from occjax.train.checkpoint import Checkpoints
from occjax.train.state import TrainState


@pytest.fixture(scope="package")
def run(world, tmp_path_factory):
    """Workdir of a run at step 0 whose averaged weights are not the raw ones."""
    config = tiny_config(world)
    # Two of six cameras: nothing here depends on how many there are, and they are compiled.
    config.data.cameras = ("CAM_FRONT", "CAM_BACK")
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    open_workdir(workdir, config)
    _, params, stats = split_student(Student(config.model, config.grid.build(), rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda x: x + 0.02 * np.abs(rng.normal(size=x.shape)).astype(np.float32), (params, stats))
    ema = dict(zip(("params", "batch_stats"), moved, strict=True))
    checkpoints = Checkpoints(workdir)
    checkpoints.save(
        0, TrainState(jnp.int32(0), {"student": params, "adapter": {}}, stats, {"mu": jnp.zeros(1)}, ema), {}
    )
    checkpoints.close()
    return workdir


@pytest.fixture(scope="package")
def config(run):
    return load_config(run)


@pytest.fixture(scope="package")
def predictor(run):
    return occjax.load(run)


@pytest.fixture(scope="package")
def sample(config):
    """A sample of the validation split: its row, and what a user has of it, image files and rig."""
    split = load_index(config.data).split("val")
    files, rig = occjax.nuscenes_frame(config.data.root, split.tokens[1], cameras=config.data.cameras)
    return 1, files, rig
