"""Damaged, half-written and too large checkpoints: one line each, the remedy works, and nothing half-written stays."""

import gc
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from tiny_state import tiny_state

from occjax.predict.checkpoint_folders import CheckpointError, newest_step
from occjax.predict.stored_weights import read_student
from occjax.system.mesh import make_mesh
from occjax.train.checkpoint import Checkpoints


@pytest.fixture
def tiny(tmp_path):
    """Checkpoints of tiny states."""
    checkpoints = Checkpoints(tmp_path)
    yield checkpoints
    checkpoints.close()


def test_a_damaged_checkpoint_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, tiny_state(), {})
    checkpoints.wait()
    (tmp_path / "checkpoints/7/ema/_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match=r"checkpoints/7 is damaged \(Expecting prop.*begins anew") as error:
        checkpoints.restore(jax.eval_shape(tiny_state), make_mesh())
    assert "\n" not in str(error.value)
    checkpoints.close()


# Reads that orbax began and broke off complain whenever they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("keep", [0, 40])
def test_a_file_that_was_not_copied_or_cut_is_damage_and_the_next_newest_is_named(tiny, tmp_path, keep):
    tiny.save(2, tiny_state(2), {})
    tiny.save(4, tiny_state(4), {})
    tiny.wait()
    victim = tmp_path / "checkpoints/4/state/manifest.ocdbt"
    whole = victim.read_bytes()
    victim.unlink() if keep == 0 else victim.write_bytes(whole[:keep])
    with pytest.raises(CheckpointError, match=r"checkpoints/4 is damaged .*delete that folder.*: step 2 is the next"):
        tiny.restore(jax.eval_shape(tiny_state), make_mesh())
    # The remedy, tried.
    shutil.rmtree(tmp_path / "checkpoints/4")
    gc.collect()
    again = Checkpoints(tmp_path)
    state, _ = again.restore(jax.eval_shape(tiny_state), make_mesh())
    again.close()
    assert int(state.step) == 2


FAILING_SAVE = """
import resource, sys
import jax.numpy as jnp, numpy as np
from pathlib import Path
from occjax.predict.checkpoint_folders import CheckpointError
from occjax.train.checkpoint import Checkpoints
from tiny_state import tiny_state
# Nothing that a compressor could make small.
noise = np.random.default_rng(0).integers(0, 2**32, 2_000_000, np.uint32)
checkpoints = Checkpoints(Path(sys.argv[1]))
# As a full disk: 1 MB, and no more.
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    checkpoints.save(7, tiny_state()._replace(opt_state={"mu": jnp.asarray(noise)}), {})
    checkpoints.wait()
except CheckpointError as error:
    print("CheckpointError:", error)
"""


def test_a_save_that_fails_on_the_way_is_named(tmp_path):
    # In a process of its own: the writes that nobody waits for any more complain whenever they are collected.
    result = subprocess.run(
        [sys.executable, "-c", FAILING_SAVE, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = (
        r"CheckpointError: the checkpoint of step 7, 8.0 MB, cannot be written to .*, where \d.* MB are free: File too "
        "large; make room there, then run the same command: it begins anew\n"
    )
    assert re.fullmatch(wanted, result.stdout), result.stderr
    assert result.stderr == "" and list((tmp_path / "checkpoints").iterdir()) == []


def test_a_checkpoint_without_room_is_refused_before_it_is_begun(tiny, tmp_path, monkeypatch):
    tiny.save(2, tiny_state(2), {})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    large = tiny_state(4)._replace(opt_state={"mu": jnp.zeros(30_000)})
    with pytest.raises(CheckpointError, match=r"step 4, 0.1 MB, .* 0.1 MB are free: No space left.*from step 2"):
        tiny.save(4, large, {})
    with pytest.raises(CheckpointError, match="No space left"):
        tiny.save_best(4, large, {}, 10.0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_what_a_killed_save_or_a_broken_copy_left_is_passed_over_and_removed(tiny, tmp_path):
    tiny.save(2, tiny_state(2), {})
    tiny.wait()
    for name in ("checkpoints/4", "checkpoints/6.orbax-checkpoint-tmp", "best/4"):
        (tmp_path / name / "state").mkdir(parents=True)
    (tmp_path / "checkpoints/4/state/manifest.ocdbt").write_text("a part of a copy")
    # Whoever only reads touches nothing.
    wanted = ({"w": jnp.float32(0)}, {"mean": jnp.float32(0)})
    assert read_student(tmp_path, *wanted, make_mesh(), which="ema", best=False).step == 2
    assert (tmp_path / "checkpoints/4/state").exists()
    resumed = Checkpoints(tmp_path)
    assert resumed.last_step == 2
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["2", "incomplete-4"]
    resumed.save(4, tiny_state(4), {})
    resumed.close()
    assert newest_step(tmp_path) == 4
