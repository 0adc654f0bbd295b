"""The words of the field: `python -m tests.words` lists what the code and the documents call otherwise; `make lint` runs it.

Someone from timm, open_clip or sentence-transformers should meet the names that they know. A line may hold such a word where
`ALLOWED` says why.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCANNED = ("*.py", "*.md", "*.toml", "*.ipynb", "Makefile")
# Other people's words, data, and this list.
LEFT_OUT = ("CHANGELOG.md", "tests/stored/", "tests/words.py", "demos/photos/", "model_cards/results/", "zoo/weights/")
LONGEST = 4000
_UNIT = (
    "token|item|input|page|line|file|row|text|model|image|query|video|document|batch|step|pair|kind|tower|class|head"
)
_COUNTED = "vector|sequence|image|frame|row|reader|batch|positive|instruction|video|table|key|position|document|read|request|box|shard|folder"
# Pattern → what to write. A word counts in prose and as a part of a name: `first_picture`, `PictureSize`.
BANNED = {
    r"pictures?": "image",
    r"films?": "video",
    r"luck": "rng, a random generator",
    r"kin": "the family, related models",
    r"dear(er|est)?": "costly",
    r"nonsense": "invalid",
    r"a sound|sound (track|column|encoder)s?|(images?|videos?|films?|texts?) (and|or) sounds?|sounds? (and|or) (images?|videos?)": "audio, a recording",
    r"pressed (in)?to": "resized to",
    r"laid on (white|black)": "composited on",
    r"loses its end": "is truncated",
    r"told by": "determined by, read from, reported by",
    rf"(one|an?) ({_COUNTED}) an? ({_UNIT})": "one … per …",
    r"((search(es|ed)?|photos?|images?|found|find(s|ing)?) (again )?by|reads?|reads no) words": "text",
    r"words (and|or) (an )?(images?|videos?|regions?|audio)|(images?|videos?|audio) (and|or) words": "text",
}
# (file, what the line holds, why it stands there).
ALLOWED = (
    ("", "~/Pictures", "a folder that every desktop has"),
    ("tests/docs/given.py", '"Pictures"', "the same"),
    ("zoo/tables/names.py", '"picture", "pictures"', "names that columns have in other people's tables"),
    ("tests/tables/test_tables_commands.py", '"picture", "photo"', "the same"),
    (
        "zoo/inputs/hashing.py",
        '"picture"',
        "a mark inside a digest: another would change the identity of every PIL image",
    ),
    (
        "zoo/publishing/certificate/facts.py",
        '("picture", "image"), ("sound", "audio"), ("film", "video")',
        "formats 1 and 2 say so",
    ),
    ("zoo/models/virtue.py", "words", "a name in templates, which saved formats have too"),
    ("training/recipe.py", '"pictures": "images"', "recipe.json of earlier runs says so"),
)


def found(text: str, pattern: str) -> bool:
    """Whether a line holds a pattern as words, or a single word of it as a part of a name."""
    whole = rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])"
    return bool(re.search(whole, text, re.IGNORECASE) or re.search(whole, _parts_of_names(text), re.IGNORECASE))


def _parts_of_names(text: str) -> str:
    """`PictureSize` and `HTTPPicture` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)


def allowed(file: str, line: str, pattern: str) -> bool:
    """Whether nothing of the pattern is left of a line without what `ALLOWED` lets stand in that file."""
    for where, held, _ in ALLOWED:
        if where in ("", file):
            line = line.replace(held, "")
    return not found(line, pattern)


def offences(files: list[Path]) -> list[str]:
    """A line for each place with a word that is not the field's."""
    said = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > LONGEST:  # an image inside a notebook
                continue
            said += [
                f"{name}:{number}: say {better!r}: {line.strip()[:120]}"
                for pattern, better in BANNED.items()
                if found(line, pattern) and not allowed(name, line, pattern)
            ]
    return said


def scanned() -> list[Path]:
    """The files that git keeps and that are ours to word."""
    names = subprocess.run(["git", "ls-files", *SCANNED], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in names.splitlines() if not name.startswith(LEFT_OUT) and (ROOT / name).is_file()]


if __name__ == "__main__":
    print(*(lines := offences(scanned())), sep="\n", end="\n" if lines else "")
    sys.exit(1 if lines else 0)
