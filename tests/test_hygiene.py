"""Rules of the house that no single module can keep."""

import re
import subprocess
import sys
from pathlib import Path

from import_graph import circles, import_graph, rooms, upward_imports

REPOSITORY = Path(__file__).resolve().parents[1]
# A floor imports only what stands on it or below it, which is above it in this list: the rows of occjax/README.md.
FLOORS = [
    # The nouns.
    ("classes",),
    ("errors",),
    ("geometry",),
    ("grid",),
    ("grid_map",),
    ("pooling",),
    ("storage",),
    ("npz",),
    ("system",),
    ("label_sets",),
    ("config", "config_model", "config_loss", "config_rules", "config_checks"),
    ("run_config",),
    ("types",),
    # The flow.
    ("data",),
    ("targets",),
    ("models",),
    ("teacher",),
    ("losses",),
    ("metrics",),
    ("predict",),
    ("train",),
    # Around it.
    ("drawing",),
    ("convert",),
    ("synthetic",),
    ("configs",),
    ("benchmark",),
    ("run",),
    ("__main__",),
]
GRAPH = import_graph(REPOSITORY / "occjax")


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


def test_the_readme_of_the_house_has_these_floors_in_this_order():
    table = (REPOSITORY / "occjax/README.md").read_text(encoding="utf-8").split("\n## ")[0]
    names = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [tuple(re.findall(r"`(\w+)(?:\.py|/)`", row)) for row in names] == FLOORS[:-1]


def test_no_import_goes_upward():
    assert upward_imports(GRAPH, FLOORS) == []


def test_neither_files_nor_rooms_import_each_other_in_circles():
    assert circles(GRAPH) == []
    assert circles(rooms(GRAPH)) == []


def test_what_the_graph_is_read_from_is_what_python_imports(tmp_path):
    package = tmp_path / "house"
    (package / "hall").mkdir(parents=True)
    (package / "attic").mkdir()
    (package / "__init__.py").write_text("")
    (package / "hall" / "__init__.py").write_text("from house.hall import door\n")
    (package / "hall" / "door.py").write_text("def open():\n    from house.attic import roof\n    import json\n")
    (package / "attic" / "__init__.py").write_text("")
    (package / "attic" / "roof.py").write_text("import house.hall.door\n")
    graph = import_graph(package)
    assert graph["hall.door"] == {"attic", "attic.roof"}
    assert upward_imports(graph, [("hall",), ("attic",)]) == [
        "hall.door imports attic",
        "hall.door imports attic.roof",
    ]
    assert upward_imports(graph, [("hall",)]) == ["attic stands on no floor"]
    assert circles(graph) == [["attic.roof", "hall.door"]]
    assert circles(rooms(graph)) == [["attic", "hall"]]
