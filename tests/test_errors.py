"""Where errors live: what a caller may catch stands in two readable lists, and one reason code says one thing."""

import ast
from pathlib import Path

from zoo import errors

PROJECT = Path(__file__).resolve().parents[1]
LISTS = {"zoo/errors.py", "training/errors.py"}
# Caught where they are raised, within a room: an answer of the server, a visitor's share of a page, a process that died.
INSIDE = {"RequestError", "QuotaError", "ConfinedError"}


def test_what_a_caller_may_catch_stands_in_the_lists() -> None:
    known, elsewhere = {"ZooError"}, []
    classes = []
    for folder in ("zoo", "training", "demos"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            place = path.relative_to(PROJECT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                    classes.append((place, node.name, bases))
    grown = True
    while grown:  # also those whose parents are found later
        more = {name for _, name, bases in classes if bases & known}
        grown, known = not more <= known, known | more
    elsewhere = [f"{place}: {name}" for place, name, _ in classes if name in known - INSIDE and place not in LISTS]
    assert elsewhere == []
    names = [name for _, name, _ in classes if name in known]
    assert len(names) == len(set(names)) > 80, "two errors of one name"


def test_a_reason_code_says_one_thing() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InputError)]
    codes = {kind: kind.code for kind in kinds if "code" in vars(kind)}
    assert len(set(codes.values())) == len(codes) > 20
