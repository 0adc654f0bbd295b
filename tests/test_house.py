"""The house itself: who may import whom, and what `import zoo` does not load."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
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
# room → rooms that it may import; a room is a module or package of zoo.
BASE = {"_version", "arguments", "errors", "reading", "spec", "items"}
PARTS = BASE | {"films", "media", "pooling", "heads"}
MAY_IMPORT = {
    "_version": set(),
    "errors": set(),
    "arguments": {"errors"},
    "reading": set(),
    "spec": {"arguments", "errors", "reading"},
    "items": BASE | {"media"},
    "files": set(),
    "keys": BASE,
    "identity": BASE | {"keys"},
    "containers": {"errors"},
    "films": BASE | {"containers", "heif", "media", "strangers"},
    "videos": {"errors", "films", "media", "strangers"},
    "heif": {"errors"},
    "apart": {"errors", "media", "strangers"},
    "media": BASE | {"heif"},
    "pooling": BASE,
    "heads": BASE,
    "similarity": {"errors", "spec"},
    "encoders": PARTS | {"encoders", "strangers"},
    "adapters": BASE | {"encoders", "formats"},  # the checks of configurations and of safetensors
    "fusion": BASE | {"encoders", "embedder", "similarity"},  # the model for its type alone
    "describing": {"embedder"},  # the model for its type alone
    "prompts": BASE,
    "windows": BASE | {"encoders"},
    "streaming": BASE | {"media", "embedder", "fusion", "similarity", "windows"},  # the model for its type alone
    "embedder": PARTS
    | {
        "describing",
        "encoders",
        "formats",
        "fusion",
        "prompts",
        "publish",
        "similarity",
        "streaming",
    },  # publish: for one verb alone
    "strangers": {"errors"},
    "formats": PARTS | {"files", "adapters", "encoders", "embedder", "fusion", "hub", "formats", "strangers"},
    "hub": PARTS | {"cache", "encoders", "embedder", "formats", "hub_errors", "registry", "strangers"},
    "hub_errors": {"errors"},
    "cache": {"hub_errors"},
    "precision": set(),
    "tables": BASE | {"evaluation", "formats", "files", "hub", "hub_errors", "identity", "media", "strangers"},
    "bulk": BASE | {"embedder", "registry", "similarity", "streaming", "strangers", "tables"},
    "registry": BASE | {"embedder", "hub", "models", "precision"},
    "models": PARTS | {"encoders", "embedder", "registry", "formats", "models"},
}
ABOVE = {"training", "demos", "cli"}


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file, read once for all tests."""
    return ast.parse(path.read_text())


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


def test_the_rooms_of_the_core_import_only_what_they_may():
    wrong = []
    for path in (PROJECT / "zoo").rglob("*.py"):
        allowed = MAY_IMPORT.get(room_of(path))
        if allowed is None:
            continue
        for module, line in imports(path):
            parts = module.split(".")
            room = parts[1] if parts[0] == "zoo" and len(parts) > 1 else None
            if room in _rooms() and room not in allowed and room != room_of(path):
                wrong.append(f"{path.relative_to(PROJECT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def _rooms() -> set[str]:
    return {p.name.removesuffix(".py") for p in (PROJECT / "zoo").iterdir()} | ABOVE


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
