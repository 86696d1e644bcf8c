"""The import graph of a package, read from its files: which module imports which, inside functions too."""

import ast
from pathlib import Path

Graph = dict[str, set[str]]


def import_graph(package: Path) -> Graph:
    """Modules of `package` by dotted name without the package's own, each with those of them that it imports.

    `a.b` stands for `a/b.py` and `a` for `a/__init__.py`; the package's own `__init__` is left out.
    """
    files = {_name(package, path): path for path in sorted(package.rglob("*.py"))}
    files.pop("")
    return {
        # Every module imports the packages around it: that says nothing.
        name: {other for other in _imports(path, package.name, files) if not f"{name}.".startswith(f"{other}.")}
        for name, path in files.items()
    }


def _name(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, package: str, names) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    own = {name.removeprefix(f"{package}.") for name in found if name.startswith(f"{package}.")}
    return {name for name in own if name in names}


def rooms(graph: Graph) -> Graph:
    """The same between top-level modules and packages: `data.index` is in the room `data`."""
    grouped: Graph = {}
    for name, imported in graph.items():
        room = name.split(".")[0]
        grouped.setdefault(room, set()).update(other.split(".")[0] for other in imported)
    return {room: others - {room} for room, others in grouped.items()}


def upward_imports(graph: Graph, floors: list[tuple[str, ...]]) -> list[str]:
    """Imports from a room to one that stands above it, and rooms that stand on no floor, in words."""
    floor_of = {room: number for number, floor in enumerate(floors) for room in floor}
    between = rooms(graph)
    homeless = [f"{room} stands on no floor" for room in sorted(between) if room not in floor_of]
    if homeless:
        return homeless
    return [
        f"{name} imports {other}"
        for name, imported in graph.items()
        for other in sorted(imported)
        if floor_of[other.split(".")[0]] > floor_of[name.split(".")[0]]
    ]


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that import each other, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = stack.index(node)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found
