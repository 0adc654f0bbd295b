"""The free-form queries of the package, held to the rules of docs/paraphrases.md."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.every import every
from zoo.evaluation.packs import BENCHMARKS
from zoo.evaluation.queries import QUERIES

ENTRIES = json.loads(QUERIES.read_text(encoding="utf-8"))
FIRST = [entry for entry in ENTRIES if entry.get("group") == "first 48"]
NEW = [entry for entry in ENTRIES if "group" not in entry]
# Rule 3; how many of the new queries over (photos, emoji) are of each kind.
SHARES = {
    "synonym": (10, 11),
    "everyday": (10, 11),
    "hypernym": (12, 12),
    "function": (12, 14),
    "description": (14, 16),
    "place": (14, 16),
}
# Words that say nothing of what is asked for: rule 4 lets them stand on both sides.
SMALL = {
    "a",
    "an",
    "and",
    "are",
    "at",
    "by",
    "for",
    "from",
    "in",
    "is",
    "it",
    "its",
    "no",
    "not",
    "of",
    "on",
    "or",
    "that",
    "the",
    "to",
    "up",
    "with",
}
NEGATIONS = {"no", "not", "never", "without", "nothing", "none", "cannot", "isn't", "doesn't"}
BRANDS = {"alpro", "arla", "bravo", "garant", "god", "morgon", "oatly", "tropicana", "valio", "yoggi"}


def words(text: str) -> list[str]:
    """What says something in a text, in lower case and without the ending of a plural."""
    found = re.findall(r"[a-z0-9]+", text.lower().replace("’", "'").replace("'s", ""))
    return [re.sub(r"(?<=[a-z]{2})(?<!s)(es|s)$", "", word) for word in found if word not in SMALL]


def shared(query: str, name: str) -> list[tuple[str, str]]:
    """Words of a query and of a name that are the same, or of which one of three or more letters is part of the other."""
    return [
        (ours, theirs)
        for ours in words(query)
        for theirs in words(name)
        if ours == theirs or (len(theirs) > 2 and theirs in ours) or (len(ours) > 2 and ours in theirs)
    ]


def test_words_are_compared_as_the_rule_says():
    assert shared("a flower", "sunflower")
    assert shared("boxes of kittens", "box")
    assert shared("an Apple", "Apples")
    assert not shared("a bit of the sea", "a pair of shoes")


def test_two_hundred_queries_of_which_the_first_48_are_marked():
    assert len(ENTRIES) == 200
    assert [*FIRST, *NEW] == ENTRIES
    assert len(FIRST) == 48
    assert Counter(entry["pack"] for entry in ENTRIES) == {"photos": 120, "emoji": 80}
    texts = [entry["query"] for entry in ENTRIES]
    assert sorted(text for text, times in Counter(texts).items() if times > 1) == []


def test_the_first_48_stay_as_they_were():
    """So that figures from before can be compared: queries and labels as of 8cc0e0e, whatever fields came beside them."""
    content = json.dumps([[entry["query"], entry["labels"]] for entry in FIRST], ensure_ascii=False)
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "3296c08eae406b61"


def test_each_kind_has_its_share():
    counted = Counter((entry["kind"], entry["pack"]) for entry in NEW)
    assert {kind: (counted[kind, "photos"], counted[kind, "emoji"]) for kind in SHARES} == SHARES
    assert {entry["kind"] for entry in ENTRIES} == set(SHARES)
    rules = (Path(__file__).parents[2] / "docs" / "paraphrases.md").read_text(encoding="utf-8")
    for kind, (photos, emoji) in SHARES.items():
        assert re.search(rf"\| `{kind}` \|.*\| {photos} \| {emoji} \|", rules), kind


@every("entry", ENTRIES, ids=lambda entry: entry["query"])
def test_no_query_holds_a_label_that_answers_it(entry: dict):
    assert entry["labels"], "nothing answers it"
    for label in entry["labels"]:
        assert f" {label.lower()} " not in f" {entry['query']} "


@every("entry", NEW, ids=lambda entry: entry["query"])
def test_a_new_query_shares_no_word_with_its_labels(entry: dict):
    assert {label: both for label in entry["labels"] if (both := shared(entry["query"], label))} == {}


@every("entry", NEW, ids=lambda entry: entry["query"])
def test_a_new_query_is_a_few_plain_words(entry: dict):
    text = entry["query"]
    assert re.fullmatch(r"[a-z][a-z', -]*[a-z]", text)
    assert 1 <= len(text.split()) <= 9
    assert not {*text.split()} & (NEGATIONS | BRANDS)
    assert sorted(set(entry["labels"])) == entry["labels"]


@pytest.mark.parametrize(("name", "answering"), [("photos", 1.0), ("emoji", 0.75)])
def test_labels_are_those_of_the_test_split(name: str, answering: float, pack):
    """Rules 2, 4 and 8: labels that exist, most of which answer a query; none shares its class's words; few images each."""
    benchmark = next(one for one in BENCHMARKS if one.pack == name)
    columns = ["label", "coarse"] if name == "photos" else ["names"]
    rows = pq.read_table(pack(name) / "test.parquet", columns=columns).to_pylist()
    images = Counter(benchmark.label(row) for row in rows)
    entries = [entry for entry in ENTRIES if entry["pack"] == name]
    used = {label for entry in entries for label in entry["labels"]}
    assert sorted(used - images.keys()) == []
    assert len(used) >= answering * len(images)
    most = {entry["query"]: sum(images[label] for label in entry["labels"]) for entry in entries}
    assert {query: count for query, count in most.items() if count > len(rows) / 6} == {}
    coarse = {benchmark.label(row): row.get("coarse", "") for row in rows}
    new = [entry for entry in entries if "group" not in entry]
    found = {
        entry["query"]: both for entry in new for a in entry["labels"] if (both := shared(entry["query"], coarse[a]))
    }
    assert found == {}
