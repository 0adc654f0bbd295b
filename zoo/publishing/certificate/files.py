"""Which files of a model's folder steer what a library makes of it, their hashes, and what a file that came later is."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from zoo.formats import TOKENIZER_FILES
from zoo.formats.checks.inside import UNREAD, check_inside
from zoo.strangers.made import MARK

FILE, VECTORS = "certificate.json", "certificate.safetensors"
# What no library reads to make a vector. Everything else is hashed, and reported where it was not there before.
_PAPERS = re.compile(
    r"(readme|licen[cs]e|notice|changelog|citation|authors)([._-].*)?|\.git(attributes|ignore)", re.IGNORECASE
)
_IMAGES = (".md", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".pdf", ".html")
# Figures, and what a training run leaves beside the model.
_FIGURES = (
    "results.json",
    "recipe.json",
    "data.json",
    "merge.json",
    "metrics.jsonl",
    "scores.json",
    "evaluations.jsonl",
    "timing.json",
)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")


def steers(name: str) -> bool:
    """Whether a file, by its place in the folder, can change what a library makes of the model."""
    path = PurePosixPath(name)
    rooms = path.parts[:-1]
    if rooms and (rooms[0] in UNREAD or rooms[0].startswith("stage-")):
        return False
    if name in (FILE, VECTORS, MARK, *_FIGURES) or path.name.startswith("events.out.tfevents"):
        return False
    return path.suffix.lower() not in _IMAGES and not _PAPERS.fullmatch(path.name)


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder that steers a library; raises UnsafeCheckpointError for one that lies elsewhere."""
    found, inside = {}, folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and steers(name):
            check_inside(path, inside)
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def kind_of(name: str) -> str:
    """What a file that nobody certified can do, as the end of a sentence; "" for plain data."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _PICKLES:
        return ": a pickle, which can run code when a library loads it"
    if suffix in (".py", ".pyc", ".so"):
        return ": code, which transformers and sentence-transformers run where they are told to trust it"
    return ""


def changes(certified: dict[str, str], there: dict[str, str], left: Iterable[str] = (), old: bool = False) -> list[str]:
    """How a folder's files differ from those of its certificate, a sentence each.

    Args:
        certified, there: names → sha256. left: files of a repository that were not fetched.
        old: the certificate is of format 1, which lists weights and tokenizers alone.
    """
    found = []
    for name, digest in certified.items():
        if name in left:
            continue
        if name not in there:
            found.append(f"{name} is missing; the certificate was made with it")
        elif there[name] != digest:
            found.append(
                f"{name} is not the file that the certificate was made with (sha256 {there[name][:12]}, not {digest[:12]})"
            )
    for name in sorted({*there, *left} - set(certified)):
        # Python is held to what the zoo writes anyway (see `zoo.publishing.exports.code`).
        listed = name.endswith((".safetensors", *_PICKLES)) or PurePosixPath(name).name in TOKENIZER_FILES
        if steers(name) and (listed or not old):
            found.append(f"{name} was not there when the certificate was made{kind_of(name)}")
    return found
