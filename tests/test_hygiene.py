"""Rules of the house that no single module can keep."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_core_imports_neither_torch_nor_tensorflow():
    code = """
import importlib, pkgutil, sys, occjax
for module in pkgutil.walk_packages(occjax.__path__, "occjax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchvision", "tensorflow"}))
"""
    assert run_python(code).strip() == "[]"


def test_the_data_package_imports_no_jax():
    code = """
import importlib, pkgutil, sys, occjax.data
for module in pkgutil.walk_packages(occjax.data.__path__, "occjax.data."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("jax" in sys.modules)
"""
    assert run_python(code).strip() == "False"


def test_no_file_grows_past_300_lines():
    sources = [
        *REPOSITORY.glob("*.py"),
        *(p for d in ("occjax", "configs", "converters", "tests") for p in (REPOSITORY / d).rglob("*.py")),
    ]
    long = {str(p.relative_to(REPOSITORY)): n for p in sources if (n := len(p.read_text().splitlines())) > 300}
    assert sources
    assert not long


def test_models_import_neither_training_nor_data_loading():
    for path in (REPOSITORY / "occjax" / "models").glob("*.py"):
        text = path.read_text()
        assert "occjax.train" not in text, path
        assert "occjax.data.pipeline" not in text, path
