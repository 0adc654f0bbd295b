"""Runs that a stranger gives: a folder as `zoo train` leaves it, and what may be wrong with one."""

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

IMAGE = "report/images/0123456789abcdef.jpg"


def a_run(folder: Path, **facts: Any) -> Path:
    """A run whose report can be made, without checkpoints; `facts` go into recipe.json."""
    from zoo.training import Recipe

    (folder / "report" / "images").mkdir(parents=True)
    stages = [Recipe(name="train", model="text-test", steps=4, batch_size=2).to_dict()]
    write(folder / "recipe.json", {"stages": stages, **facts})
    write(folder / "data.json", {"command": "zoo train pairs.csv", "sources": ["pairs.csv"], "pairs": 8})
    write(folder / "scores.json", scores())
    rows = [{"step": step, "loss": 1 / step, "lr": 1e-3, "grad_norm": 1.0, "items_per_s": 9.0} for step in range(1, 5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [{"step": step, "measure": "nDCG@10", "figure": 0.5, "figures": {"ndcg@10": 0.5}} for step in (2, 4)]
    (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judged))
    (folder / "skipped.jsonl").write_text(json.dumps({"pair": "line 3", "reason": "empty"}) + "\n")
    write(folder / "report" / "examples.json", examples(IMAGE))
    Image.new("RGB", (8, 8)).save(folder / IMAGE)
    return folder


def scores() -> dict[str, Any]:
    """Figures of two held-out pairs."""
    way = {"candidates": 2, "ks": [1], "rows": [0, 1], "first": [0, 1], "ranks": [1, 2], "right": [1, 1]}
    way |= {"recall": [[1.0], [0.0]], "ndcg": [1.0, 0.63]}
    facts = {"pairs": 2, "skipped": [], "sides": ["text", "text"], "alignment": 0.5, "uniformity": -1.0}
    facts |= {"gap": 0.5, "plane": [[[0.1, 0.2]], [[0.3, 0.4]]]}
    found = {**facts, "forward": way, "backward": way}
    kept = {"train": {"step": 4, "steps": 4, "told": "kept: the last"}}
    return {"before": found, "after": found, "kept": kept, "verdict": {"measure": "nDCG@10"}}


def examples(image: str) -> dict[str, Any]:
    """One example of a report."""
    shown = {"text": "", "image": image, "alt": "a cat", "note": ""}
    case = {"asked": shown, "right": shown, "before": None, "after": shown, "place_before": None, "place_after": 1}
    return {"forward": {"helped": [case]}}


def write(path: Path, value: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value))


def change(path: Path, **facts: Any) -> None:
    """Other facts in a JSON file."""
    write(path, {**json.loads(path.read_text()), **facts})


def put(path: Path, what: str, home: Path) -> None:
    """A link to a file or a folder of the user's, to nothing yet there, a FIFO or 3 GB of nothing in the place of an entry."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "sparse":
        with path.open("wb") as file:
            file.truncate(3 * 2**30)
    else:
        path.symlink_to({"file": home / ".bashrc", "folder": home / "photos", "nothing": home / "new"}[what])


@cache
def _stopped(home: str) -> Path:
    """A run of the command line on a table of its own, stopped after two of four steps; made once."""
    from zoo.training import corpus  # noqa: F401

    import zoo.cli

    root = Path(home)
    table = root / "pairs.csv"
    table.write_text("query,positive\n" + "".join(f"what is it {i},it is {i}\n" for i in range(24)))
    words = [str(table), "--model", "text-test", "--from-scratch", "--batch-size", "8", "--log", "none"]
    words += ["--out", str(root / "run"), "--steps", "2", "--checkpoint-every", "1", "--holdout", "0"]
    assert zoo.cli.main(["train", *words]) == 0
    return root


def a_stopped_run(gift: Path, made: Path) -> Path:
    """The same in a gift, with its table beside it; `made` is where it was made first."""
    root = _stopped(str(made))
    shutil.copy(root / "pairs.csv", gift / "pairs.csv")
    return Path(shutil.copytree(root / "run", gift / "run"))


# What may stand where a fact of a run was, and what writes a report of each, a line a time.
WRONG = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    -1e308,
    "",
    "../../x",
    "\ud800",
    "$\\frac{$",
    [],
    [[]],
    {},
    [1, "a"],
    {"a": 1},
]
MANY = """
import json, sys
from pathlib import Path
from zoo.errors import ZooError
from zoo.training.report import write_report
run, name = Path(sys.argv[1]), sys.argv[2]
told = 0
for line in Path(sys.argv[3]).read_text().splitlines():
    (run / name).write_text(line)
    try:
        write_report(run)
    except ZooError:
        told += 1
print(told)
"""
