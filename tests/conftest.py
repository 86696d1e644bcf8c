"""Shared test set-up: four virtual CPU devices, checked array annotations, and where reference data may be found."""

import fcntl
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far longer than they run: the compiler's optimisation passes would cost more than they save, and the
# newer emitters of fused loops take 40 to 60 % longer to compile, where they can be turned off.
# OCCJAX_TESTS_AS_USERS=1 leaves the compiler as it is for everybody else: what is fused and vectorised is tested too.
_flags = ["--xla_force_host_platform_device_count=4"]
if os.environ.get("OCCJAX_TESTS_AS_USERS") != "1":
    _flags.append("--xla_backend_optimization_level=0")
    if tuple(map(int, version("jax").split(".")[:2])) <= (0, 10):
        _flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *_flags))
# Nobody reads in which of the program's lines an operation began: a tenth less to trace.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# What a test session makes once lies here; with `-n 2` each of pytest's own processes finds what the other has made.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _session = tempfile.TemporaryDirectory(prefix="occjax-tests-")
    os.environ["OCCJAX_TEST_SESSION"] = _session.name
SESSION = Path(os.environ["OCCJAX_TEST_SESSION"])
# Programs that a session compiles twice come from here the second time, in processes that tests start too; sessions
# that follow each other (tests/mutations.py) may share a folder.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("OCCJAX_TESTS_COMPILED", str(SESSION / "compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jaxtyping  # noqa: E402 - after the environment is set
import pytest  # noqa: E402

jaxtyping.install_import_hook("occjax", "beartype.beartype")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with reference data and goldens: $OCCJAX_SHARED, or `shared` beside the repository."""
    path = Path(os.environ.get("OCCJAX_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "goldens").is_dir():
        pytest.skip(f"reference data not found at {path}; set OCCJAX_SHARED")
    return path


@pytest.fixture(scope="session")
def world() -> Path:
    """Root of a tiny generated world with its teacher; `tiny_world.tiny_config(world)` trains on it.

    All of a session's processes share it: tests only read it.
    """
    from tiny_world import tiny_config

    from occjax.run.prepare import prepare

    root = SESSION / "world/nuscenes"
    with (SESSION / "world.lock").open("w") as lock:
        # The second process finds it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare(tiny_config(root))
    return root


# Files that take longest, longest first: a process that began one of them last would end alone.
LONGEST = (
    "run/test_train.py",
    "train/test_step.py",
    "run/test_dump.py",
    "run/test_real_data.py",
    "train/test_checkpoint.py",
    "train/test_finite_check.py",
    "models/test_student.py",
    "converters/test_weights_from_torch.py",
    "benchmark/test_distillation_cost.py",
    "run/test_third_label_set.py",
    "run/test_unlabelled.py",
)


def pytest_collection_modifyitems(items):
    rank = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))
