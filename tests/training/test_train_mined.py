"""What `zoo mine` writes, `zoo train` takes: every kind of source, into every kind of file, and the command that is printed."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from zoo.training import mine
from zoo.training.rows import set_aside

from tests.tables.train_tables import as_csv, as_jsonl, as_parquet, shard
from tests.training.train_support import PAINTS, SHAPES, fresh, make_image
from zoo.cli import main
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.tables import open_pairs, write_pairs
from zoo.tables.names import MINED
from zoo.tables.pairs import Pair
from zoo.tables.writing import ENDINGS

THINGS = [(shape, paint) for shape in SHAPES for paint in PAINTS]
TEXTS = [f"{paint} {shape}" for shape, paint in THINGS]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve images, and as many in folders named after what they show."""
    for i, (shape, paint) in enumerate(THINGS):
        for place in (tmp_path / "my images" / f"{i}.png", tmp_path / "named" / f"{paint}_{shape}" / "a.png"):
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(make_image(shape, paint)).save(place)
    return tmp_path


def path(i: int) -> str:
    return f"my images/{i % 12}.png"


def content(folder: Path, i: int) -> bytes:
    return (folder / path(i)).read_bytes()


def source_of(kind: str, folder: Path, hub) -> Path | str:
    """Twelve rows or more of a kind."""
    rows = range(12)
    if kind == "texts with groups":
        made = [
            {"query": f"what is {t} {i}", "positive": t, "group": f"00{i % 6}", "dataset": "ab"[i % 2], "page": i}
            for i, t in enumerate(TEXTS)
        ]
        return as_csv(made, folder / "texts.csv")
    if kind == "image to text":
        return as_csv([{"image": path(i), "text": TEXTS[i]} for i in rows], folder / "images.csv")
    if kind == "text to image":
        made = [{"query_text": TEXTS[i], "positive_image": path(i), "split": "train"} for i in rows]
        return as_jsonl(made, folder / "to-images.jsonl")
    if kind == "composed":
        made = [{"query_image": path(i + 1), "query_text": f"but {TEXTS[i]}", "positive_image": path(i)} for i in rows]
        return as_jsonl(made, folder / "composed.jsonl")
    if kind == "lists":
        return as_jsonl([{"image": path(i), "captions": [TEXTS[i], f"a {TEXTS[i]}"]} for i in rows], folder / "l.jsonl")
    if kind == "instructions":
        told = [{"query_instruction": f"task {i % 3}", "positive_instruction": f"find {i % 2}"} for i in rows]
        return as_csv([{"query": f"q {i}", "positive": TEXTS[i], **told[i]} for i in rows], folder / "told.csv")
    if kind == "bytes":
        made = [{"image": {"bytes": content(folder, i), "path": None}, "text": TEXTS[i]} for i in rows]
        return as_parquet(made, folder / "bytes.parquet")
    if kind == "shards":
        files = {f"{i:04}.{end}": made for i in rows for end, made in (("png", content(folder, i)), ("txt", TEXTS[i]))}
        return shard(folder / "shard.tar", files)
    if kind == "hub":
        made = as_csv([{"image": f"{i}.png", "text": TEXTS[i]} for i in rows], folder / "t.csv").read_bytes()
        hub.add({"t.csv": made, **{f"{i}.png": content(folder, i) for i in rows}}, "datasets/org/mined")
        return "hf:org/mined"
    return folder / "named"


SOURCES = [
    "texts with groups",
    "image to text",
    "text to image",
    "composed",
    "lists",
    "instructions",
    "bytes",
    "shards",
]
SOURCES += ["hub", "folder"]


def told(pair: Pair) -> tuple:
    """All that a pair says, media by their bytes."""

    def of(item: Item) -> bytes:
        return item_key(replace(item, instruction=item.instruction or ""), files="content")

    items = [
        [of(item) for item in part] for part in ((pair.query, pair.positive), pair.extra_positives, pair.negatives)
    ]
    return items, pair.group, pair.dataset, [round(score, 6) for score in pair.teacher_scores]


class Scored(list):
    """Mined pairs, some of which are then robbed of their negatives."""

    scores_column = MINED


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_read_from_every_file_as_it_was_mined(kind, folder, client_hub, cache_home):
    pairs = open_pairs(source_of(kind, folder, client_hub))
    mined = Scored(mine(pairs, fresh().eval(), negatives=3, relative_margin=0.02))
    assert any(pair.negatives for pair in mined)
    mined[2:6] = [replace(pair, negatives=(), teacher_scores=pair.teacher_scores[:1]) for pair in mined[2:6]]
    for ending in ENDINGS:
        found = open_pairs(write_pairs(mined, folder / "else where" / "deep" / f"mined{ending}"))
        assert [told(pair) for pair in found.check()] == [told(pair) for pair in mined], ending
        assert found.schemas[0].unused == ()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("texts with groups", ".csv"),
        ("text to image", ".tsv"),
        pytest.param("lists", ".jsonl", marks=pytest.mark.slow),
        pytest.param("composed", ".jsonl", marks=pytest.mark.slow),
        pytest.param("bytes", ".parquet", marks=pytest.mark.slow),
        pytest.param("instructions", ".tsv", marks=pytest.mark.slow),
    ],
)
def test_the_next_command_runs(kind, ending, folder, client_hub, cache_home, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    fresh().save_pretrained(folder / "a teacher")
    (folder / "runs" / "mine").mkdir(parents=True)  # an earlier one
    source = source_of(kind, folder, client_hub)
    command = ["mine", str(source), "--teacher", "a teacher", "--out", f"o'clock/mined{ending}", "--negatives", "3"]
    assert main([*command, "--quiet"]) == 0
    captured = capsys.readouterr()
    (line,) = [line for line in captured.out.splitlines() if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: "))
    assert words == ["zoo", "train", f"o'clock/mined{ending}", "--model", "a teacher", "--out", "runs/mine-2"]
    lost = {"texts with groups": "not written: page", "text to image": "not written: split"}.get(kind, "")
    assert lost in captured.err
    if kind == "lists":
        assert main(words[1:]) == 0
        assert (folder / "runs" / "mine-2" / "README.md").is_file()
        assert list((folder / "runs" / "mine-2").glob("skipped*")) == []
    else:  # one step, and nothing written
        assert main([*words[1:], "--dry-run"]) == 0
    assert kind.startswith("text") or "rows have" in capsys.readouterr().out


def test_what_was_said_to_the_miner_is_said_to_the_trainer(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fresh("text-test").save_pretrained(tmp_path / "teacher")
    rows = [{"query": f"what is {i}", "positive": "null" if i == 3 else f"it is {i}"} for i in range(8)]
    as_csv(rows, tmp_path / "t.csv")
    command = ["mine", "t.csv", "--teacher", "teacher", "--out", "m.csv", "--quiet", "--as-text", "null"]
    assert main([*command, "--negatives", "2", "--device", "cpu"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "next: zoo train m.csv --model teacher --out runs/mine --as-text null --device cpu"
    assert main([*shlex.split(line)[2:], "--dry-run"]) == 0


def test_the_miner_leaves_out_what_is_bad_and_lists_it(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    fresh().save_pretrained(folder / "teacher")
    (folder / "cut.png").write_bytes(content(folder, 0)[:60])
    rows = [{"image": path(i), "text": TEXTS[i]} for i in range(12)]
    rows += [{"image": "none.png", "text": "x"}, {"image": path(0), "text": " "}, {"image": "cut.png", "text": "y"}]
    as_csv(rows, folder / "t.csv")
    command = ["mine", "t.csv", "--teacher", "teacher", "--out", "m.jsonl", "--quiet"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "2 of 15 inputs are bad" in error  # the third can be told only when it is decoded
    assert "t.csv, line 14: no image" in error
    assert "--max-bad 2" in error
    assert main([*command, "--max-bad", "2"]) == 2
    assert "3 of 15 inputs are bad" in capsys.readouterr().err
    assert not (folder / "m.jsonl").exists()
    assert main([*command, "--max-bad", "20%", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    listed = [json.loads(line)["pair"] for line in Path(report["skipped"]).read_text().splitlines()]
    assert listed == ["t.csv, line 14", "t.csv, line 15", "t.csv, line 16, query"]
    assert (report["pairs"], report["kept"], len(open_pairs("m.jsonl"))) == (15, 12, 12)


def test_the_miner_asks_about_grades_and_a_file_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    as_csv([{"query": f"q {i}", "positive": f"p {i}", "score": i % 2} for i in range(6)], tmp_path / "t.csv")
    assert main(["mine", "t.csv", "--out", "m.csv"]) == 2
    assert "column score grades the pairs" in capsys.readouterr().err
    (tmp_path / "m.csv").mkdir()
    assert main(["mine", "t.csv", "--out", "m.csv"]) == 2
    assert "it is a folder" in capsys.readouterr().err
    with pytest.raises(Exception, match="there are no pairs to mine for"):
        mine(set_aside([], 0), fresh("text-test"))
