"""The house itself: who may import whom, and what `import zoo` does not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import house
from tests.house import PROJECT, parsed

HEAVY = {
    "torch",
    "transformers",
    "timm",
    "open_clip",
    "gradio",
    "decord",
    "lancedb",
    "pandas",
    "sklearn",
    "numpy",
    "PIL",
}
# room → the rooms that it imports, lazily or not, by floors from the ground up. A new arrow is a decision: it is written here.
ROWS: dict[str, set[str]] = {
    "allocator": set(),
    "callers": set(),
    "errors": set(),
    "fusion": set(),
    "heads": set(),
    "html_page": set(),
    "machine": set(),
    "modalities": set(),
    "precision": set(),
    "sequences": set(),
    "arguments": {"errors"},
    "strangers": {"allocator", "callers", "errors"},
    "files": {"strangers"},
    "wheels": {"errors", "strangers"},
    "inputs": {"callers", "errors", "modalities", "strangers"},
    "spec": {"arguments", "errors", "modalities", "sequences"},
    "encoders": {"callers", "errors", "inputs", "modalities", "precision", "sequences", "spec", "strangers"},
    "hub": {"errors", "files"},
    "pooling": {"inputs"},
    "outputs": {"inputs"},
    "prompts": {"callers", "errors", "spec"},
    "registry": {"arguments", "callers", "errors", "modalities", "sequences", "spec"},
    "scales": {"spec"},
    "shards": {"errors", "files", "inputs", "strangers"},
    "similarity": {"errors", "spec"},
    "regions": {"errors", "inputs"},
    "embedder": {
        "arguments",
        "callers",
        "encoders",
        "errors",
        "fusion",
        "inputs",
        "modalities",
        "outputs",
        "pooling",
        "prompts",
        "regions",
        "registry",
        "scales",
        "similarity",
        "spec",
    },
    "index": {
        "arguments",
        "callers",
        "errors",
        "files",
        "modalities",
        "shards",
        "similarity",
        "spec",
        "strangers",
    },
    "formats": {
        "callers",
        "embedder",
        "encoders",
        "errors",
        "files",
        "fusion",
        "heads",
        "hub",
        "inputs",
        "modalities",
        "outputs",
        "pooling",
        "regions",
        "registry",
        "sequences",
        "spec",
        "strangers",
    },
    "models": {"embedder", "encoders", "heads", "outputs", "pooling", "registry", "sequences", "spec"},
    "serving": {"arguments", "embedder", "encoders", "errors", "inputs", "prompts", "similarity", "spec", "strangers"},
    "backends": {"callers", "encoders", "errors", "files", "inputs", "strangers"},
    "loading": {
        "arguments",
        "backends",
        "callers",
        "encoders",
        "errors",
        "formats",
        "hub",
        "precision",
        "regions",
        "registry",
        "spec",
        "strangers",
        "wheels",
    },
    "quantizing": {"arguments", "embedder", "encoders", "errors", "evaluation", "inputs"},
    "proposals": {"encoders", "errors", "formats", "hub", "inputs", "loading"},
    "tables": {
        "callers",
        "errors",
        "files",
        "formats",
        "hub",
        "inputs",
        "shards",
        "strangers",
    },
    "bulk": {
        "arguments",
        "errors",
        "inputs",
        "loading",
        "prompts",
        "proposals",
        "regions",
        "registry",
        "shards",
        "similarity",
        "spec",
        "strangers",
        "tables",
    },
    "evaluation": {
        "allocator",
        "arguments",
        "callers",
        "embedder",
        "errors",
        "files",
        "formats",
        "fusion",
        "html_page",
        "inputs",
        "loading",
        "machine",
        "prompts",
        "regions",
        "registry",
        "scales",
        "spec",
        "strangers",
        "tables",
    },
    "benching": {
        "strangers",
        "encoders",
        "allocator",
        "arguments",
        "backends",
        "embedder",
        "errors",
        "evaluation",
        "heads",
        "inputs",
        "loading",
        "machine",
        "modalities",
        "registry",
        "wheels",
    },
    "comparing": {
        "allocator",
        "arguments",
        "callers",
        "embedder",
        "errors",
        "evaluation",
        "files",
        "fusion",
        "html_page",
        "inputs",
        "loading",
        "machine",
        "prompts",
        "registry",
        "reranking",
        "similarity",
        "spec",
        "tables",
    },
    "reranking": {
        "arguments",
        "callers",
        "embedder",
        "encoders",
        "errors",
        "files",
        "formats",
        "inputs",
        "loading",
        "modalities",
        "pooling",
        "registry",
        "sequences",
        "spec",
        "strangers",
    },
    "vectors": {
        "arguments",
        "callers",
        "errors",
        "files",
        "index",
        "inputs",
        "shards",
        "similarity",
        "strangers",
        "tables",
    },
    "publishing": {
        "arguments",
        "embedder",
        "encoders",
        "errors",
        "evaluation",
        "files",
        "formats",
        "fusion",
        "heads",
        "hub",
        "inputs",
        "loading",
        "modalities",
        "pooling",
        "prompts",
        "registry",
        "reranking",
        "sequences",
        "spec",
        "strangers",
        "wheels",
    },
    "rerankers": {"models", "reranking", "sequences"},
    "cli": {
        "allocator",
        "arguments",
        "backends",
        "benching",
        "bulk",
        "comparing",
        "errors",
        "evaluation",
        "files",
        "fusion",
        "index",
        "inputs",
        "loading",
        "prompts",
        "publishing",
        "quantizing",
        "registry",
        "reranking",
        "scales",
        "serving",
        "shards",
        "strangers",
        "tables",
        "vectors",
        "wheels",
    },
    "integrations": {"callers", "errors", "inputs", "loading", "prompts", "publishing", "spec"},
}
MOST_FLOORS = 10
ABOVE = {"training", "demos", "cli"}


def imports(path: Path, only_top: bool = False):
    """(module, line) of every import of a file, absolute names only."""
    tree = parsed(path)
    nodes = tree.body if only_top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, node.lineno
            if node.module == "zoo":
                yield from ((f"zoo.{alias.name}", node.lineno) for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PROJECT / "zoo").parts[0].removesuffix(".py")


def test_every_room_imports_what_its_row_says():
    graph = house.house()
    assert set(graph) == set(ROWS)
    wrong = [
        f"{name} imports {other}"
        for name, others in sorted(house.module_graph().items())
        for other in sorted(others)
        if house.room_of(name) in ROWS
        and house.room_of(other) in ROWS
        and house.room_of(other) not in ROWS[house.room_of(name)] | {house.room_of(name)}
    ]
    assert not wrong, "\n".join(wrong)
    unused = {room: sorted(allowed - graph[room]) for room, allowed in ROWS.items() if allowed - graph[room]}
    assert not unused, f"rows allow what nobody imports: {unused}"


def test_no_room_is_reached_by_a_string():
    """A module that is named in a string, and imported by it, is an arrow as well; only the door of the package has such."""
    graph, hidden = house.graph(), []
    for name, path in house.modules().items():
        for node in ast.walk(parsed(path)):
            said = node.value if isinstance(node, ast.Constant) else None
            other = said.partition(":")[0] if isinstance(said, str) else ""
            if other.startswith("zoo.") and other in house.modules():
                mine, theirs = house.room_of(name), house.room_of(other)
                if mine not in (theirs, "__init__") and theirs not in graph[mine]:
                    hidden.append(f"{name}:{node.lineno} names {other}")
    # The card of a model says which file of models/ defines it, and imports none.
    assert [place for place in hidden if not place.startswith("zoo.publishing.cards.facts:")] == []


def test_there_is_no_ring_of_rooms_or_modules():
    assert house.rings(house.graph()) == []
    assert house.rings(house.module_graph()) == []


def test_the_house_has_few_floors():
    assert max(house.floors(house.house()).values()) < MOST_FLOORS


def test_the_drawing_is_of_this_house():
    for path, text in house.files():
        assert path.read_text("utf-8") == text, f"{path.name} is old: python -m tests.house"


def test_rings_and_floors_are_found():
    rooms = {name: frozenset(others) for name, others in {"a": "b", "b": "c", "c": "b", "d": "", "e": "ad"}.items()}
    assert house.rings(rooms) == [["b", "c"]]
    straight = {name: frozenset(others) for name, others in {"a": "bc", "b": "c", "c": ""}.items()}
    assert house.floors(straight) == {"a": 2, "b": 1, "c": 0}


def test_the_wheel_has_every_package():
    import tomllib

    told = set(tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    folders = {"zoo": PROJECT / "zoo", "zoo.training": PROJECT / "training", "zoo.demos": PROJECT / "demos"}
    found = {
        ".".join((name, *path.parent.relative_to(folder).parts))
        for name, folder in folders.items()
        for path in folder.rglob("__init__.py")
    }
    assert found == {name for name in told if not name.startswith("zoo.model_cards")}


@pytest.mark.parametrize(("folder", "forbidden"), [("zoo", ABOVE), ("training", {"demos"}), ("demos", {"training"})])
def test_nothing_points_back(folder, forbidden):
    wrong = []
    for path in (PROJECT / folder).rglob("*.py"):
        if folder == "zoo" and room_of(path) in ("cli", "__main__"):
            continue  # the command line may run any sub-command
        for module, line in imports(path):
            parts = module.split(".")
            if parts[0] == "zoo" and len(parts) > 1 and parts[1] in forbidden:
                wrong.append(f"{path.relative_to(PROJECT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_the_command_line_imports_training_and_demos_only_when_it_runs_them():
    for path in (PROJECT / "zoo" / "cli").rglob("*.py"):
        top = {module.split(".")[1] for module, _ in imports(path, only_top=True) if module.startswith("zoo.")}
        assert not top & {"training", "demos"}, path


def test_model_files_define_no_layers():
    for path in (PROJECT / "zoo" / "models").glob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                assert not any("Module" in ast.unparse(base) for base in node.bases), f"{path}: {node.name}"


def test_gradio_is_imported_only_by_demos():
    for folder in ("zoo", "training"):
        for path in (PROJECT / folder).rglob("*.py"):
            assert "gradio" not in {module.split(".")[0] for module, _ in imports(path)}, path


def test_import_zoo_loads_nothing_heavy():
    code = f"import sys, zoo; zoo.list_models(); print(sorted(set(sys.modules) & {HEAVY!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert out.stdout.strip() == "[]"


def test_the_first_vector_of_zoo_mini_loads_nothing_that_takes_longer_than_the_model():
    slow = [
        "timm",
        "torchvision",
        "transformers",
        "torch._dynamo",
        "sympy",
        "scipy",
        "huggingface_hub",
        "pandas",
        "rich",
    ]
    code = (
        "import sys, zoo; from pathlib import Path; model = zoo.load_model('zoo-mini', device='cpu'); model.encode('a cat'); "
        "model.encode(min(Path('demos/photos').glob('*.jpg'))); "
        f"print([name for name in {slow!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert out.stdout.strip() == "[]"
