"""Names of files and models in what others made: nothing of the user's is opened or shown by them, unless he says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.formats.hostile_support import edit, put
from tests.strangers.harness import Answer, Sandbox
from tests.tables.train_tables import png, shard
from zoo.bulk import embed_dataset

slow = pytest.mark.slow
NOT_HERE = "was not made here"


def vectors(sandbox: Sandbox, references: list[str] | None = None, **source: Any) -> Path:
    """A stranger's folder of vectors of three images beside it, whose manifest and rows name what he likes."""
    photos, folder = sandbox.gift / "photos", sandbox.gift / "vectors"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.png").write_bytes(png(80 * number, 20, 200))
    embed_dataset("zoo-mini", photos, folder, progress=False)
    told = json.loads(json.dumps(source).replace("$HOME", str(sandbox.home)))
    edit(folder / "manifest.json", lambda facts: put(facts, "source", {**facts["source"], **told}))
    if references is not None:
        (path,) = (folder / "shards").iterdir()
        table = pq.read_table(path)
        names = [name.replace("$HOME", str(sandbox.home)) for name in references]
        at = table.schema.get_field_index("reference")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(names)), path)
    return folder


def searched(sandbox: Sandbox, folder: Path, *options: Any, **also: Any) -> Answer:
    """A page of a search, which the user would share."""
    return sandbox.zoo("search", folder, "a cat", "--html", sandbox.out / "found.html", *options, **also)


def shown(sandbox: Sandbox, name: str = "found.html") -> int:
    """Images on the page."""
    return (sandbox.out / name).read_text().count("<img")


# ---------------------------------------------------------------------------------------- images that a manifest names

CAT = ["cat.png"] * 3
PLACES: list[tuple[list[str] | None, dict[str, Any]]] = [
    (["$HOME/photos/cat.png"] * 3, {}),
    (CAT, {"root": "$HOME/photos"}),
    (["../../home/photos/cat.png"] * 3, {"root": "/nowhere"}),
    (["~/photos/cat.png", "file://$HOME/photos/cat.png", "photos/../../../home/photos/cat.png"], {}),
    (["t.parquet#0", "t.parquet#1", "s.tar#0"], {"base": "$HOME", "column": "image"}),
    (
        ["t.parquet#0", "t.parquet#1", "s.tar#0"],
        {"path": "$HOME/t.parquet", "root": "$HOME", "base": None, "column": "image"},
    ),
    (["cat.png\0", "\0", "x" * 5000], {"root": "$HOME/photos"}),
    (CAT, {"root": "$HOME/photos", "outside": True}),
]


def _private(sandbox: Sandbox) -> None:
    """Tables with images of the user's."""
    image = (sandbox.home / "photos" / "cat.png").read_bytes()
    pq.write_table(pa.table({"image": [image, image]}), sandbox.home / "t.parquet")
    shard(sandbox.home / "s.tar", {"0.image": image})


@pytest.mark.parametrize(
    ("references", "source"), [PLACES[0], *(pytest.param(*place, marks=slow) for place in PLACES[1:])]
)
def test_images_of_the_users_stand_on_no_page(sandbox: Sandbox, references: Any, source: dict[str, Any]) -> None:
    _private(sandbox)
    answer = searched(sandbox, vectors(sandbox, references, **source)).harmless()
    assert "3 images are not shown; " in answer.err
    assert shown(sandbox) == 0
    assert NOT_HERE in (sandbox.out / "found.html").read_text()


@slow
def test_a_link_in_the_folder_is_none_of_its_files(sandbox: Sandbox) -> None:
    folder = vectors(sandbox, CAT)
    (folder / "cat.png").symlink_to(sandbox.home / "photos" / "cat.png")
    searched(sandbox, folder).safe()
    assert not (sandbox.out / "found.html").exists() or shown(sandbox) == 0


@slow
@pytest.mark.parametrize(
    "command",
    [("classify", "--labels", "cat,dog"), ("cluster", "--k", "2"), ("dedupe", "--threshold", "0.5")],
)
def test_no_command_shows_them(sandbox: Sandbox, command: tuple[str, ...]) -> None:
    name, *options = command
    folder = vectors(sandbox, CAT, root=str(sandbox.home / "photos"))
    sandbox.zoo(name, folder, *options, "--html", sandbox.out / "found.html").safe()
    assert shown(sandbox) == 0
    sandbox.zoo(name, folder, *options, "--csv", sandbox.out / "found.csv").safe()


@slow
def test_a_page_of_vectors_shows_none_of_them(sandbox: Sandbox) -> None:
    folder = vectors(sandbox, CAT, root=str(sandbox.home / "photos"))
    code = (
        "import sys, pathlib, zoo\nfrom zoo.demos.stored import vectors_gallery\n"
        "vectors_gallery(zoo.load_model('zoo-mini'), pathlib.Path(sys.argv[1]))"
    )
    sandbox.python(code, folder).refused(f"none of the 1 images .*{NOT_HERE}.*--root DIR")


@slow
def test_the_user_says_where_the_images_are(sandbox: Sandbox) -> None:
    folder = vectors(sandbox, ["0.png", "../../home/photos/cat.png", "link.png"])
    (sandbox.gift / "photos" / "link.png").symlink_to(sandbox.home / "photos" / "cat.png")
    searched(sandbox, folder, "--root", sandbox.gift / "photos").harmless()
    assert shown(sandbox) == 1
    photos = [sandbox.home / "photos"]
    answer = sandbox.zoo(
        *("search", folder, "a cat", "--html", sandbox.out / "all.html", "--root", sandbox.gift / "photos"),
        "--allow-outside",
        reads=photos,
    )
    answer.harmless()
    assert shown(sandbox, "all.html") == 3


@slow
def test_ones_own_folder_shows_ones_own_images(sandbox: Sandbox) -> None:
    made = sandbox.zoo("embed", sandbox.home / "photos", "--out", sandbox.out / "v", reads=[sandbox.home / "photos"])
    made.harmless()
    answer = searched(sandbox, sandbox.out / "v")
    assert "read" in str(answer.trespasses)  # of the user's own, which he has embedded
    assert shown(sandbox) == 1


# --------------------------------------------------------------------------------------------- models that a manifest names


@pytest.mark.parametrize(
    "name",
    [
        "$GIFT/model",
        *(
            pytest.param(name, marks=slow)
            for name in (
                "hf:evil/repo",
                "./model",
                "~/model",
                "$HOME/model",
                "open_clip:ViT-B-32/openai",
                "timm:x",
                "",
                "$HOME",
            )
        ),
    ],
)
def test_a_model_that_a_manifest_names_is_not_opened(sandbox: Sandbox, name: str) -> None:
    folder = vectors(sandbox)
    name = name.replace("$GIFT", str(sandbox.gift)).replace("$HOME", str(sandbox.home))
    edit(folder / "manifest.json", lambda facts: put(facts, "model", name))
    sandbox.zoo("search", folder, "a cat").refused(
        f"{NOT_HERE}.*no registered one.*--model|no text|lacks|manifest.json"
    )


@slow
def test_what_opens_when_the_user_says_it(sandbox: Sandbox) -> None:
    folder = vectors(sandbox)
    edit(folder / "manifest.json", lambda facts: put(facts, "model", "hf:evil/repo"))
    sandbox.zoo("search", folder, "a cat", "--model", "zoo-mini").harmless()
    sandbox.zoo("classify", folder, "--labels", "cat,dog").refused(NOT_HERE)
    sandbox.zoo("demo", "--vectors", folder, "--port", "0").refused(f"{NOT_HERE}|needs gradio")


@slow
def test_ones_own_folder_of_an_earlier_version(sandbox: Sandbox) -> None:
    (sandbox.home / "photos" / "0.png").write_bytes(png(10, 20, 200))
    folder = vectors(sandbox, CAT, root=str(sandbox.home / "photos"))
    edit(folder / "manifest.json", lambda facts: put(facts, "model", "hf:me/mine"))
    sandbox.zoo("search", folder, "a cat").refused("zoo search DIR --adopt")
    answer = searched(
        sandbox, folder, "--adopt", "--model", "zoo-mini", writes=[folder], reads=[sandbox.home / "photos"]
    )
    answer.harmless()
    assert shown(sandbox) == 3


@slow
def test_a_registered_name_of_other_vectors_is_not_fetched(sandbox: Sandbox) -> None:
    folder = vectors(sandbox)
    edit(folder / "manifest.json", lambda facts: put(facts, "model", "gme-qwen2vl-7b"))
    sandbox.zoo("search", folder, "a cat").refused(NOT_HERE)


# ------------------------------------------------------------------------------------------------------------------- tables


def _metadata(sandbox: Sandbox, name: str) -> None:
    (sandbox.gift / "metadata.csv").write_text(f"file_name,text\n0.png,good\n{name},bad\n")


def _jsonl(sandbox: Sandbox, name: str) -> None:
    rows = [{"file_name": "0.png", "text": "good"}, {"file_name": name, "text": "bad"}]
    (sandbox.gift / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _parquet(sandbox: Sandbox, name: str) -> None:
    (sandbox.gift / "0.png").unlink()  # images would go before tables
    pq.write_table(pa.table({"image": [name], "text": ["bad"]}), sandbox.gift / "t.parquet")


def _partitions(sandbox: Sandbox, name: str) -> None:
    (sandbox.gift / "0.png").unlink()
    (sandbox.gift / "lang=de").mkdir()
    pq.write_table(pa.table({"image": [name], "text": ["bad"]}), sandbox.gift / "lang=de" / "t.parquet")


OUTSIDE = ("$HOME/photos/cat.png", "../home/photos/cat.png", "link/cat.png", "link.png", "..\\home\\photos\\cat.png")
ODD = ("~/photos/cat.png", "file://$HOME/photos/cat.png", "https://127.0.0.1:9/cat.png")


def _named(sandbox: Sandbox, write: Callable[..., None], name: str) -> Path:
    (sandbox.gift / "0.png").write_bytes(png(10, 20, 200))
    (sandbox.gift / "link").symlink_to(sandbox.home / "photos")
    (sandbox.gift / "link.png").symlink_to(sandbox.home / "photos" / "cat.png")
    write(sandbox, name.replace("$HOME", str(sandbox.home)))
    return sandbox.gift


def embedded(sandbox: Sandbox, *options: Any, **also: Any) -> Answer:
    return sandbox.zoo("embed", sandbox.gift, "--out", sandbox.out / "v", *options, **also)


def quarantined(sandbox: Sandbox) -> list[str]:
    return [json.loads(line)["message"] for line in (sandbox.out / "v" / "quarantine.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (_metadata, OUTSIDE[1]),
        *(pytest.param(_metadata, name, marks=slow) for name in (OUTSIDE[0], *OUTSIDE[2:])),
        *(pytest.param(write, OUTSIDE[0], marks=slow) for write in (_jsonl, _parquet, _partitions)),
    ],
)
def test_a_table_that_was_found_names_no_file_outside(sandbox: Sandbox, write: Callable[..., None], name: str) -> None:
    _named(sandbox, write, name)
    column = "file_name" if write in (_metadata, _jsonl) else "image"
    embedded(sandbox, "--model", "zoo-mini", "--column", column, "--quiet").safe()
    (message,) = quarantined(sandbox)
    assert "leads out of the folder" in message
    assert "--allow-outside" in message


@slow
@pytest.mark.parametrize("name", ODD)
def test_a_name_that_is_no_path_of_this_machine(sandbox: Sandbox, name: str) -> None:
    _named(sandbox, _metadata, name)
    embedded(sandbox, "--model", "zoo-mini", "--column", "file_name", "--quiet").harmless()
    assert len(quarantined(sandbox)) == 1


@slow
@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("command", ["train", "mine", "eval", "compare"])
def test_pairs_that_were_found_name_no_file_outside(sandbox: Sandbox, command: str, name: str) -> None:
    gift = _named(sandbox, _metadata, name)
    words = {
        "train": ["train", gift, "--model", "zoo-mini", "--dry-run", "--out", sandbox.out / "run"],
        "mine": ["mine", gift, "--teacher", "zoo-mini", "--out", sandbox.out / "m.jsonl", "--max-bad", "0"],
        "eval": ["eval", "zoo-mini", "--pairs", gift, "--max-bad", "0"],
        "compare": ["compare", "zoo-mini", "--data", gift, "--max-bad", "0", "--no-speed"],
    }[command]
    answer = sandbox.zoo(*words).safe()
    assert "leads out of the folder" in answer.text, answer.text


@slow
def test_the_users_own_table_may_and_the_run_says_how_many(sandbox: Sandbox) -> None:
    _named(sandbox, _metadata, "$HOME/photos/cat.png")
    table, photos = sandbox.gift / "metadata.csv", [sandbox.home / "photos"]
    answer = sandbox.zoo(
        *("embed", table, "--out", sandbox.out / "v", "--model", "zoo-mini", "--column", "file_name"), reads=photos
    )
    answer.harmless()
    assert f"1 of 2 files lie outside {sandbox.gift}" in answer.err
    answer = sandbox.zoo("train", table, "--model", "zoo-mini", "--dry-run", "--out", sandbox.out / "r", reads=photos)
    assert f"1 of 2 files lie outside {sandbox.gift}" in answer.harmless().text


@slow
def test_files_outside_are_read_when_the_user_says_so(sandbox: Sandbox) -> None:
    _named(sandbox, _metadata, "$HOME/photos/cat.png")
    options = ("--model", "zoo-mini", "--column", "file_name", "--quiet", "--allow-outside")
    embedded(sandbox, *options, reads=[sandbox.home / "photos"]).harmless()
    assert quarantined(sandbox) == []


@slow
def test_an_archive_names_no_file_beside_it(sandbox: Sandbox) -> None:
    (sandbox.gift / "tax.png").write_bytes(png(10, 20, 200))
    shard(
        sandbox.gift / "s.tar",
        {"0.json": '{"image": "tax.png", "text": "bad"}', "1.json": '{"image": "x", "text": "b"}'},
    )
    words = ("embed", sandbox.gift / "s.tar", "--out", sandbox.out / "v", "--model", "zoo-mini", "--column", "image")
    sandbox.zoo(*words).refused("leads out of the archive|TooManyBad|2 bad-row|cannot be embedded")
    sandbox.zoo(
        "train", sandbox.gift / "s.tar", "--model", "zoo-mini", "--dry-run", "--out", sandbox.out / "r"
    ).refused("leads out of the archive")


# -------------------------------------------------------------------------------------------------------------------- links


def _an_image(gift: Path, home: Path) -> None:
    (gift / "cat.png").symlink_to(home / "photos" / "cat.png")


def _a_name_without_suffix(gift: Path, home: Path) -> None:
    (gift / "cat").symlink_to(home / "photos" / "cat.png")


def _a_folder(gift: Path, home: Path) -> None:
    (gift / "more").symlink_to(home / "photos")


def _a_table(gift: Path, home: Path) -> None:
    (home / "t.csv").write_text("file_name,text\n0.png,a\n")
    (gift / "metadata.csv").symlink_to(home / "t.csv")


@slow
@pytest.mark.parametrize("plant", [_an_image, _a_name_without_suffix, _a_folder, _a_table])
def test_links_in_a_folder_of_images(sandbox: Sandbox, plant: Callable[[Path, Path], None]) -> None:
    (sandbox.gift / "0.png").write_bytes(png(10, 20, 200))
    plant(sandbox.gift, sandbox.home)
    answer = embedded(sandbox, "--model", "zoo-mini", "--quiet").safe()
    if plant is _an_image:
        assert "leads out of the folder" in quarantined(sandbox)[0]
    if plant is _a_table:
        assert "leads out of the folder" in answer.text


@slow
def test_a_split_that_is_a_link(sandbox: Sandbox) -> None:
    (sandbox.gift / "test" / "cat").mkdir(parents=True)
    (sandbox.gift / "test" / "cat" / "0.png").write_bytes(png(10, 20, 200))
    (sandbox.gift / "train").symlink_to(sandbox.home / "photos")
    words = ("train", sandbox.gift, "--model", "zoo-mini", "--dry-run", "--out", sandbox.out / "r")
    sandbox.zoo(*words).refused("'train' leads out of the folder")


@slow
def test_a_text_beside_an_image_that_is_a_link(sandbox: Sandbox) -> None:
    for number in range(4):
        (sandbox.gift / f"{number}.png").write_bytes(png(10 * number, 20, 200))
        (sandbox.gift / f"{number}.txt").write_text(f"image {number}")
    (sandbox.gift / "0.txt").unlink()
    (sandbox.gift / "0.txt").symlink_to(sandbox.home / "secret.txt")
    words = ("train", sandbox.gift, "--model", "zoo-mini", "--dry-run", "--out", sandbox.out / "r")
    answer = sandbox.zoo(*words).safe()
    assert "leads out of the folder" in answer.text


@slow
def test_a_pipe_among_the_images(sandbox: Sandbox) -> None:
    (sandbox.gift / "0.png").write_bytes(png(10, 20, 200))
    os.mkfifo(sandbox.gift / "1.png")
    os.mkfifo(sandbox.gift / "2")
    embedded(sandbox, "--model", "zoo-mini", "--quiet").safe()
    assert pq.read_table(sandbox.out / "v" / "shards").num_rows == 1


@slow
@pytest.mark.parametrize("reference", ["p.png", "t.parquet#0", "t.parquet#²", "t.parquet#" + "9" * 5000, "s.tar#0"])
def test_pipes_and_odd_numbers_after_a_reference(sandbox: Sandbox, reference: str) -> None:
    folder = vectors(sandbox, [reference] * 3, column="image")
    for name in ("p.png", "s.tar"):
        os.mkfifo(folder / name)
    pq.write_table(pa.table({"image": [str(sandbox.home / "photos" / "cat.png")]}), folder / "t.parquet")
    searched(sandbox, folder).safe()
