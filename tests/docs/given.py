"""What the reader of the documents has: files of the packaged data, small models in place of large ones, and what cannot be run here.

`NOT_RUN` is the one list of what no test runs, with its reasons; a test holds that each entry is still in the page.
"""

import json
import os
import shutil
from pathlib import Path

from PIL import Image

from tests.docs.blocks import PROJECT, Block, Command

# What a page's reader has run before, on another page.
_TRAIN = "zoo train {} --out runs/{} --epochs 1 --log none"
BEFORE: dict[str, list[str]] = {
    "docs/comparing.md": [_TRAIN.format("pairs.csv", "mine")],
    "docs/evaluation.md": [_TRAIN.format("pairs.csv", "mine")],
    "docs/inspecting.md": [_TRAIN.format("pairs.csv", "mine")],
    "docs/losses.md": [_TRAIN.format("qa.jsonl --model all-minilm-l6-v2", "mine")],
    "docs/publishing.md": [_TRAIN.format("pairs.csv", "mine")],
    "docs/rerankers.md": ["zoo embed photos/ --out vectors/"],
    "docs/training.md": [_TRAIN.format("qa.jsonl --model all-minilm-l6-v2", name) for name in ("a", "b")],
}
# Names and folders of a page that are the reader's own: a program that makes them.
NAMES: dict[str, str] = {
    "docs/comparing.md": """
import pathlib, shutil
import pyarrow.csv, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.csv.read_csv("pairs.csv"), "captions.parquet")
photos = sorted(pathlib.Path("photos").glob("*.jpg"))
for number, photo in enumerate(photos[:8]):  # a folder for each class
    place = pathlib.Path("things", "boat" if number % 2 else "plant")
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, place)
""",
    "docs/evaluation.md": """
import numpy
from PIL import Image
from pathlib import Path
Path("val").mkdir()
rows = ["image,text"]
for n in range(40):  # calibration wants thirty pairs
    Image.fromarray(numpy.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype="uint8")).resize((96, 96)).save(f"val/{n}.png")
    rows.append(f"val/{n}.png,pattern number {n}")
Path("val.csv").write_text("\\n".join(rows) + "\\n", "utf-8")
""",
    "docs/inspecting.md": """
from pathlib import Path
Path("captions.csv").write_text(Path("pairs.csv").read_text("utf-8").replace("image,text", "photo,text", 1), "utf-8")
""",
    "docs/media.md": """
import numpy
samples = numpy.sin(numpy.arange(44_100, dtype="float32") / 20)
frames = numpy.random.default_rng(0).integers(0, 256, (4, 60, 80, 3), dtype="uint8")
""",
    "docs/rerankers.md": """
from pathlib import Path
from tests.reference.qwen2_vl import write_qwen2_vl
write_qwen2_vl(Path("my-checkpoint"))
""",
    "docs/training.md": """
import numpy
from PIL import Image
from pathlib import Path
Path("many").mkdir()
rows = ["image,text"]
for n in range(100):  # a recipe's batch has 64
    Image.fromarray(numpy.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype="uint8")).resize((96, 96)).save(f"many/{n}.png")
    rows.append(f"many/{n}.png,pattern number {n}")
Path("pairs.csv").write_text("\\n".join(rows) + "\\n", "utf-8")
""",
    "docs/search.md": """
import shutil
from pathlib import Path
Path("queries.txt").write_text("a boat\\na mountain\\n", "utf-8")
shutil.copy("photos/harbour.jpg", "photos/harbour-again.jpg")  # zoo dedupe ends with 1 where nothing is there twice
""",
}
# Large models of the Hub → the tiny one of the family, which runs the same code with random weights.
STAND_INS = {
    "qwen3vl-reranker-2b": "qwen3vl-reranker-test",
    "ms-marco-minilm-l6-v2": "ms-marco-test",
    "embeddinggemma-2": "embeddinggemma-test",
    "fgclip2-vit-b16": "fgclip2-test",
    "clap-htsat-unfused": "clap-test",
}
# (page, what a command line begins with, or a line of a python block) → why it is not run. "" is every page.
NOT_RUN: dict[tuple[str, str], str] = {
    ("", "pip install"): "installs packages; the test runs in what they installed",
    ("", "make "): "the targets are there (tested); they set up an environment and run this very suite",
    ("", "hf auth login"): "asks for your token; the loopback hub's stands in the environment",
    ("docs/evaluation.md", "zoo eval zoo-mini --tasks"): "a task of mteb, whose data lie on the Hub",
    ("docs/evaluation.md", "mteb.evaluate("): "a task of mteb, whose data lie on the Hub",
    ("docs/evaluation.md", "zoo eval zoo-omni --mixed"): "data packs (ZOO_DATA), and minutes of video",
    ("docs/media.md", "zoo calibrate"): "data packs (ZOO_DATA), and minutes of video",
    ("docs/media.md", "zoo eval"): "data packs (ZOO_DATA), and minutes of video",
    ("docs/regions.md", "zoo train"): "a data pack (ZOO_DATA), and minutes of training",
}


def reason_not_to_run(thing: Block | Command) -> str | None:
    """Why a block or a command line is not run; None where it is."""
    lines = thing.code.splitlines() if isinstance(thing, Block) else [thing.text]
    for (page, begins), reason in NOT_RUN.items():
        if page in ("", thing.page) and any(line.startswith(begins) for line in lines):
            return reason
    return None


def make_world(folder: Path) -> None:
    """Fills a folder with what the pages take for given: photos, tables, and a home with photos, papers, videos and recordings."""
    photos = sorted((PROJECT / "demos" / "photos").glob("*.jpg"))
    home = folder / "home"
    for place in (folder / "photos", home / "Pictures"):
        _copy(photos, place)
    for name in ("photo.jpg", "street.jpg", "dress.jpg", "b.jpg"):
        with Image.open(folder / "photos" / "harbour.jpg") as image:
            image.resize((640, 480)).save(folder / name)
    _tables(folder, [path.name for path in photos])
    _media(folder, home)


def _copy(files: list[Path], place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, place)


def _tables(folder: Path, photos: list[str]) -> None:
    rows = [(f"photos/{name}", Path(name).stem.replace("-", " ")) for name in photos]
    text = "image,text\n" + "".join(f"{image},a photo of {what}\n" for image, what in rows)
    for name in ("pairs.csv", "test.csv", "val.csv"):
        (folder / name).write_text(text, "utf-8")
    things = ["cat", "dog", "boat", "tree", "house", "river", "stone", "cloud", "flower", "train", "bird", "fish"]
    pairs = [(f"what is a {thing}?", f"a {thing} is number {n} of these things") for n, thing in enumerate(things)]
    (folder / "qa.jsonl").write_text("".join(json.dumps({"query": q, "positive": p}) + "\n" for q, p in pairs), "utf-8")
    (folder / "questions.csv").write_text("question,passage\n" + "".join(f"{q},{p}\n" for q, p in pairs[:3]), "utf-8")
    (folder / "probe.csv").write_text(
        "dataset,query,positive\n" + "".join(f"things,{q},{p}\n" for q, p in pairs), "utf-8"
    )


def _media(folder: Path, home: Path) -> None:
    from tests.inputs.pdfs import BLUE, RED, Sheet, pdf
    from tests.inputs.video_files import encoded

    paper = pdf([Sheet("table of results", RED), Sheet("a boat", BLUE), Sheet("the end")])
    video = encoded("mpeg4", "mp4", range(50), audio=True)
    recordings = sorted((PROJECT / "demos" / "audio").glob("*.mp3"))[:3]
    for place in (home / "Papers", home / "Stuff", folder):
        place.mkdir(exist_ok=True)
        (place / "paper.pdf").write_bytes(paper)
    for place in (home / "Videos", home / "Stuff" / "2024"):
        place.mkdir(exist_ok=True)
        (place / "clip.mp4").write_bytes(video)
    for name in ("clip.webm", "clip.mp4", "talk.mp4", "video.mp4"):
        (folder / name).write_bytes(video)
    for name in ("Recordings", "Sounds"):
        _copy(recordings, home / name)
    _copy(recordings, home / "Stuff" / "2024")
    _copy(sorted((folder / "photos").glob("a*.jpg")), home / "Stuff" / "2024")
    (home / "Stuff" / "notes.txt").write_text("a dog barks at the postman", "utf-8")
    lines = [
        "error E1234: the lid is open",
        "hold the button for five seconds to reset it",
        "the cable is two metres long",
    ]
    for name in ("notes.txt", "manual.txt"):
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    shutil.copy(PROJECT / "demos" / "audio" / "dog.mp3", folder)


def copy_repository(folder: Path) -> None:
    """A copy of what a page may change: the package, its cards and its documents, with the weights linked."""
    weights = PROJECT / "zoo" / "weights"
    ignore = shutil.ignore_patterns("__pycache__", "weights", "reference", "notebooks")
    for name in ("zoo", "model_cards", "docs"):
        shutil.copytree(PROJECT / name, folder / name, ignore=ignore)
    for name in ("training", "demos", "model_cards"):  # as they are installed
        (folder / "zoo" / name).symlink_to(PROJECT / name if name != "model_cards" else folder / name)
        if not (folder / name).exists():
            (folder / name).symlink_to(PROJECT / name)
    (folder / "zoo" / "weights").symlink_to(weights)
    shutil.copy(PROJECT / "README.md", folder)
    shutil.copytree(PROJECT / "tests" / "plugin_package" / "acme_zoo", folder / "acme_zoo")


def environment(folder: Path, hub: dict[str, str]) -> dict[str, str]:
    """The environment of a reader whose home is in the folder, and who knows one hub, on this machine."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_"))}
    state = {"XDG_CACHE_HOME": f"{folder}/home/.cache", "XDG_STATE_HOME": f"{folder}/home/.state"}
    return {
        **inherited,
        **hub,
        **state,
        "HOME": f"{folder}/home",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
