"""pack:words: what it is made of, that it is the same each time, and what of the measured queries is in it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import PROJECT
from zoo import build_model
from zoo.errors import MissingPackError, TableError
from zoo.tables import open_pairs, open_sources, words
from zoo.tables.options import Options
from zoo.tables.pack_files import read_pack

ROWS = {
    "photos": [
        {
            "captions": ["a zib", "a long zib"],
            "label": "zib",
            "coarse": "Zibs",
            "description": "It is round. It rolls.",
        },
        {"captions": ["a zeb", "a wet zeb"], "label": "zeb", "coarse": "Zebs", "description": None},
    ],
    "emoji": [{"names": {"en": "face of a zob", "de": "Zobgesicht"}, "keywords": {"en": ["zobby"], "de": ["Zob"]}}],
    "symbols": [{"text_en": "to zub", "tags": "zubbing zubs"}],
}
PASSAGE = {"title": "Zabs", "query": "what are zabs", "passage": "Zabs are long and thin. No.\nThey live in zabberies."}
ASKED = [
    ("zoo/evaluation/paraphrases.json", lambda content: content, "query"),
    ("demos/queries.json", lambda content: content["queries"], "text"),
]


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packs of a few rows, whose other splits cannot be read."""
    for pack, rows in ROWS.items():
        (tmp_path / pack).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / pack / "train.parquet")
        for split in ("val", "test"):
            (tmp_path / pack / f"{split}.parquet").write_bytes(b"not to be read")
    (tmp_path / "text").mkdir()
    pq.write_table(pa.Table.from_pylist([PASSAGE]), tmp_path / "text" / "passages-train.parquet")
    for split in ("val", "test"):
        (tmp_path / "text" / f"passages-{split}.parquet").write_bytes(b"not to be read")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(words, "_PHRASES", 300)  # the rest of the 40,000 are like them
    return tmp_path


def test_rows_come_from_the_train_splits_and_are_the_same_each_time(packs: Path) -> None:
    rows = words.word_pairs()
    words._pairs_with.cache_clear()
    assert words.word_pairs() == rows
    assert len(set(rows)) == len(rows) > 20_000
    assert all(a != b and re.search("[A-Za-z]{2}", a) and re.search("[A-Za-z]{2}", b) for a, b in rows)
    assert {
        ("a zib", "a long zib"),
        ("a zib", "zib"),
        ("a zib", "zibs"),
        ("It is round.", "a zib"),
        ("It rolls.", "a zib"),
        ("a zeb", "a wet zeb"),
        ("to zub", "a drawing of to zub"),
        ("to zub", "zubs"),
        ("Zabs are long and thin.", "Zabs"),
        ("They live in zabberies.", "Zabs"),
    } <= set(rows)
    assert [a for a, b in rows if b == "zobby" and "face of a zob" in a]
    assert not [row for row in rows if "Zob" in row[0] + row[1]]  # the other languages
    assert ("No.", "Zabs") not in rows  # too short to be a sentence


def test_synonyms_and_meanings_of_wordnet(packs: Path) -> None:
    names, meaning = words.classes()[0]
    assert "tench" in names
    assert meaning.startswith("freshwater dace-like game fish")
    assert (len(words.classes()), words.classes()[999][0][0]) == (1000, "toilet tissue")
    rows = words.word_pairs()
    assert any("tench" in a and meaning in b for a, b in rows)
    assert any("kitty" in a + b and "kitten" in a + b for a, b in rows)
    phrases = rows[-100:]
    assert len({word for row in phrases for text in row for word in text.split()}) > 150


def test_it_is_opened_like_any_table(packs: Path) -> None:
    table = open_pairs("pack:words")
    assert (len(table), list(table.names)) == (len(words.word_pairs()), ["words"])
    assert set(table.datasets) == {0}
    pair = table[5]
    assert ((pair.query.text, pair.positive.text), pair.dataset) == (words.word_pairs()[5], "words")
    assert (pair.where, table.problems()) == ("pack:words, row 5", [])
    assert str(table.schemas[0]).startswith("pack:words")
    both = open_sources(["pack:words", "mine=pack:words"], Options())
    assert (list(both.names), len(both)) == (["words", "mine"], 2 * len(table))


def test_other_packs_give_other_rows(packs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    rows = words.word_pairs()
    other = tmp_path_factory.mktemp("other") / "packs"
    shutil.copytree(packs, other)
    pq.write_table(pa.Table.from_pylist([{"text_en": "to zyb", "tags": ""}]), other / "symbols" / "train.parquet")
    monkeypatch.setenv("ZOO_DATA", str(other))
    assert ("to zyb", "a drawing of to zyb") in set(words.word_pairs()) - set(rows)


@pytest.mark.parametrize("split", ["val", "test", "validation"])
def test_it_has_no_split_but_train(split: str, packs: Path) -> None:
    with pytest.raises(
        TableError, match=r"pack:words is there to learn from and has the split train alone, not 'val|test"
    ):
        open_pairs("pack:words", split=split)


def test_a_pack_that_is_not_here_is_named(packs: Path) -> None:
    (packs / "emoji" / "train.parquet").unlink()
    with pytest.raises(MissingPackError, match=r"emoji.train\.parquet does not exist; set ZOO_DATA"):
        open_pairs("pack:words")


def test_it_takes_no_columns(packs: Path) -> None:
    with pytest.raises(TableError, match="pack:words is no table: it takes no columns"):
        open_pairs("pack:words", columns={"query": "word"})


@pytest.mark.slow
def test_train_says_how_it_is_read(packs: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    model = build_model("text-test").save_pretrained(packs / "model")
    train = ("train", "pack:words", "--model", model, "--steps", 1, "--batch-size", 4, "--holdout", 0)
    status, out, err = run(*train, "--dry-run")
    assert status == 0, err
    assert f"pack:words: {len(words.word_pairs()):,} pairs" in out
    assert re.search(r"query +text +column word\n +positive +text +column meaning", out)


@pytest.mark.slow
def test_of_the_measured_queries_only_names_of_things_occur(pack: Callable[[str], Path]) -> None:
    """What docs/paraphrases.md says: synonyms and classes that WordNet or a train split lists, no description of anything."""
    for needed in ("photos", "emoji", "symbols", "text"):
        pack(needed)
    texts = {text.lower() for row in words.word_pairs() for text in row}
    bare_texts = {bare(text) for text in texts}
    named = {word for synonyms, _ in words.nouns().values() for word in synonyms}
    for row in read_pack("emoji", "train", ["names", "keywords"]):
        named |= {row["names"]["en"], *row["keywords"]["en"]}
    for row in read_pack("symbols", "train", ["text_en", "tags"]):
        named |= {row["text_en"], *row["tags"].split()}
    named = {bare(name) for name in named}
    counts, kinds = [], set()
    for file, entries_of, word in ASKED:
        entries = entries_of(json.loads((PROJECT / file).read_text(encoding="utf-8")))
        found = [entry for entry in entries if bare(entry[word]) in bare_texts]
        assert [entry for entry in found if bare(entry[word]) not in named] == []
        counts.append((sum(entry[word].lower() in texts for entry in entries), len(found), len(entries)))
        kinds.add(frozenset(entry["kind"] for entry in found))
    assert frozenset({"synonym", "everyday", "hypernym"}) in kinds
    said = " ".join((PROJECT / "docs" / "paraphrases.md").read_text(encoding="utf-8").split())
    for (exact, found, whole), owner in zip(counts, ("queries", "queries of the demo"), strict=True):
        assert f"{exact} of the {whole} {owner}" in said
        assert f"({found} where" in said or f"({found})" in said


def bare(text: str) -> str:
    """Without its case and its article."""
    return re.sub("^(an?|the) ", "", text.lower())
