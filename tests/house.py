"""The import graph of `zoo/`, read with `ast`, lazy imports counted; drawn in docs/architecture.svg and listed in docs/architecture.md.

python -m tests.house            # writes both
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests import diagram

PROJECT = Path(__file__).resolve().parents[1]
ZOO = PROJECT / "zoo"
# The only verbs that may reach up: a model saves and publishes itself.
UPWARD = {
    ("embedder", "save_pretrained"),
    ("embedder", "push_to_hub"),
    ("reranking", "save_pretrained"),
    ("reranking", "push_to_hub"),
}
TABLE = re.compile(r"(<!-- rooms:start[^\n]*-->\n).*?(<!-- rooms:end -->)", re.DOTALL)
Graph = Mapping[str, frozenset[str]]


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file, read once for all tests."""
    return ast.parse(path.read_text("utf-8"))


def room_of(module: str) -> str:
    """The module or package directly under `zoo` that a module lies in: "zoo.formats.zoo_native" → "formats"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def modules() -> dict[str, Path]:
    """Every module of `zoo/` by its name."""
    found = {}
    for path in sorted(ZOO.rglob("*.py")):
        parts = ("zoo", *path.relative_to(ZOO).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _left_out(tree: ast.Module, room: str) -> set[int]:
    """Nodes whose imports do not count: those for types alone, and those of the declared verbs."""
    left: set[int] = set()
    for node in ast.walk(tree):
        types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        verb = isinstance(node, ast.FunctionDef) and (room, node.name) in UPWARD
        if types or verb:
            left |= {id(inner) for part in node.body for inner in ast.walk(part)}
    return left


def imports(path: Path, room: str = "") -> Iterator[tuple[str, int]]:
    """(module or name in it, line) of every import of `zoo` in a file, lazy ones too."""
    tree = parsed(path)
    left = _left_out(tree, room)
    for node in ast.walk(tree):
        if id(node) in left:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "zoo")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "zoo":
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _module(name: str) -> str:
    """The module that a name is, or lies in."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


@cache
def module_graph() -> Graph:
    """Module → modules of `zoo/` that it imports; training and demos, which are installed under `zoo`, are none of them."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for name, path in modules().items():
        for wanted, _ in imports(path, room_of(name)):
            if wanted.split(".")[1:2] not in (["training"], ["demos"], ["model_cards"]) and _module(wanted) != "zoo":
                graph[name].add(_module(wanted))
    return {name: frozenset(found - {name}) for name, found in graph.items()}


@cache
def graph() -> Graph:
    """Room → rooms that it imports."""
    rooms: dict[str, set[str]] = {}
    for name, wanted in module_graph().items():
        rooms.setdefault(room_of(name), set()).update(room_of(other) for other in wanted)
    return {room: frozenset(others - {room}) for room, others in rooms.items()}


def rings(graph: Graph) -> list[list[str]]:
    """Sets of names that import each other, directly or not (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def floors(graph: Graph) -> dict[str, int]:
    """Each room's floor: one above the highest that it imports. The graph has no ring."""
    known: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in known:
            known[room] = 1 + max((floor(other) for other in graph[room]), default=-1)
        return known[room]

    for room in graph:
        floor(room)
    return known


def table(graph: Graph, about: Mapping[str, str]) -> str:
    """The table of docs/architecture.md: a row for every room, from the top floor down."""
    at = floors(graph)
    rows = [
        f"| {at[room]} | `{room}` | {about[room]} | {', '.join(f'`{other}`' for other in sorted(graph[room])) or '—'} |"
        for room in sorted(graph, key=lambda room: (-at[room], room))
    ]
    return "\n".join(["| floor | room | what it is | imports |", "| --- | --- | --- | --- |", *rows, ""])


def about() -> dict[str, str]:
    """The first sentence of each room, by its docstring."""
    found = {}
    for name in modules():
        if name.count(".") == 1:
            said = (ast.get_docstring(parsed(modules()[name])) or "").split("\n")[0]
            found[room_of(name)] = said.replace("|", "\\|")
    return found


def house() -> Graph:
    """The graph of the rooms proper: without the doors `zoo/__init__.py`, `__main__.py` and the version."""
    doors = {"__init__", "__main__", "_version", "exports"}
    return {room: others - doors for room, others in graph().items() if room not in doors}


def files() -> Iterable[tuple[Path, str]]:
    """What is written, and where: the drawing, and the page with its table; the rest of the page is written by hand."""
    found, page = house(), PROJECT / "docs" / "architecture.md"
    text = TABLE.sub(lambda m: m.group(1) + table(found, about()) + m.group(2), page.read_text("utf-8"))
    return ((PROJECT / "docs" / "architecture.svg", diagram.svg(floors(found))), (page, text))


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, "utf-8")
