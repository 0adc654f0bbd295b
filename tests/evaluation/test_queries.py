"""Free-form queries against values worked out by hand, on packs that the test writes itself."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zoo
from tests.evaluation.test_evaluation import Named, photo
from zoo.errors import InvalidQueriesError, MissingPackError
from zoo.evaluation import tasks
from zoo.evaluation.__main__ import main
from zoo.evaluation.metrics import interval
from zoo.evaluation.packs import ALL, encode_pack
from zoo.evaluation.queries import evaluate_queries, query_results, query_scores, query_table, read_queries
from zoo.evaluation.tasks import find_jobs, known_tasks

# Among photos of an apple, a pear, an apple that looks like a pear, and a hat; among drawings of an apple and a top hat.
ASKED = [
    {"query": "an apple", "labels": ["apple"], "kind": "synonym", "group": "old"},
    {"query": "apple!", "labels": ["red apple"], "pack": "emoji", "kind": "place"},
    {"query": "hat", "labels": ["pear"], "kind": "synonym"},
    {"query": "a pear", "labels": ["top hat"], "pack": "emoji", "kind": "place"},
]


def save(folder: Path, rows: list[dict], split: str = "test") -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


@pytest.fixture
def packs(tmp_path, monkeypatch) -> Path:
    photos = [("apple", "apple"), ("pear", "pear"), ("apple", "?"), ("hat", "hat")]
    save(tmp_path / "photos", [photo(label, "grocery", image) for label, image in photos])
    drawings = [("red apple", "apple"), ("top hat", "hat")]
    save(tmp_path / "emoji", [{"image": image.encode(), "names": {"en": name}} for name, image in drawings])
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    return tmp_path


def written(folder: Path, content: object) -> Path:
    file = folder / "mine.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_each_query_searches_its_pack(packs):
    answers = evaluate_queries(Named(), written(packs, ASKED))
    assert [answer.asked.query for answer in answers] == ["an apple", "apple!", "hat", "a pear"]
    assert [answer.images for answer in answers] == [4, 2, 4, 2]
    assert [(answer.first, answer.right) for answer in answers] == [
        ("apple", True),
        ("red apple", True),
        ("hat", False),
        ("red apple", False),
    ]
    # "hat" meets the pear on equal terms with both apples, after the hat; "a pear" is like neither drawing: ties are lost.
    assert [answer.rank for answer in answers] == [1, 1, 4, 2]
    assert [answer.precision for answer in answers] == [2 / 4, 1 / 2, 1 / 4, 1 / 2]
    assert [answer.chance for answer in answers] == [2 / 4, 1 / 2, 1 / 4, 1 / 2]


def test_images_that_have_been_embedded_are_not_embedded_again(packs):
    file = written(packs, ASKED)
    expected = evaluate_queries(Named(), file)
    encoded = {pack: encode_pack(Named(), pack) for pack in ("photos", "emoji")}

    class OfText(Named):
        def encode(self, inputs):
            assert all(isinstance(value, str) for value in inputs)
            return super().encode(inputs)

    assert evaluate_queries(OfText(), file, encoded=encoded) == expected
    with pytest.raises(AssertionError):
        evaluate_queries(OfText(), file, encoded={"photos": encoded["photos"]})


def test_parts_are_counted_apart(packs):
    scores = query_scores(evaluate_queries(Named(), written(packs, ASKED)))
    assert [(s.part, s.queries, s.images) for s in scores] == [
        (ALL, 4, 6),
        ("photos", 2, 4),
        ("emoji", 2, 2),
        ("old", 1, 4),
        ("synonym", 2, 4),
        ("place", 2, 2),
    ]
    found = {s.part: s for s in scores}
    assert {part: s.hits[1] for part, s in found.items()} == {
        ALL: interval(2, 4),
        "photos": interval(1, 2),
        "emoji": interval(1, 2),
        "old": interval(1, 1),
        "synonym": interval(1, 2),
        "place": interval(1, 2),
    }
    assert all(s.hits[5].value == 1 for s in scores)
    assert found[ALL].precision.value == pytest.approx((2 / 4 + 1 / 2 + 1 / 4 + 1 / 2) / 4)
    assert found["photos"].precision.value == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["photos"].precision[1:] == (0.25, 0.5), "of two queries the bootstrap draws either alone often enough"
    assert found["photos"].chance == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["emoji"].chance == pytest.approx(1 / 2)


def test_what_is_all_of_the_queries_has_no_second_row(packs):
    one = [{"query": "an apple", "labels": ["apple"], "kind": "synonym"}]
    assert [s.part for s in query_scores(evaluate_queries(Named(), written(packs, one)))] == [ALL]


def test_results_are_a_row_for_each_part(packs):
    answers = evaluate_queries(Named(), written(packs, ASKED))
    results = query_results(query_scores(answers), "mine", "test", "x")
    assert {(r.dataset, r.task, r.direction, r.split, r.source) for r in results} == {
        ("mine", "image-text-retrieval", "text → image", "test", "x")
    }
    assert [r.part for r in results][::4] == ["", "photos", "emoji", "old", "synonym", "place"]
    assert len({r.key for r in results}) == len(results) == 6 * 4
    first, low, high = interval(2, 4)
    assert (results[0].metric, results[0].value, results[0].low, results[0].high) == ("hit@1", first, low, high)
    assert [r.metric for r in results[:4]] == ["hit@1", "hit@5", "precision@10", "precision by chance"]
    assert results[3].low is None
    assert [r.notes for r in results if r.metric == "hit@1"][:2] == ["4 queries, 6 images", "2 queries, 4 images"]
    assert query_table(answers).splitlines()[-2:] == [
        "| hat | photos | hat | no |",
        "| a pear | emoji | red apple | no |",
    ]


def test_labels_that_the_split_lacks_are_named_before_anything_is_embedded(packs):
    class Untouched(Named):
        def encode(self, inputs):
            raise AssertionError("nothing is to be embedded")

    wrong = [ASKED[0], {"query": "an apple", "labels": ["red apple", "apple"], "pack": "emoji"}]
    with pytest.raises(InvalidQueriesError, match=r"names 1 labels .* split 'test' has, such as 'apple' of emoji"):
        evaluate_queries(Untouched(), written(packs, wrong))
    with pytest.raises(MissingPackError, match=r"photos.val\.parquet"):
        evaluate_queries(Untouched(), written(packs, ASKED), "val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no query"),
        ({"query": "a", "labels": ["b"]}, "must be a list"),
        ([{"query": "a"}], "lacks labels"),
        ([{"query": "a", "labels": "b"}], "labels"),
        ([{"query": "a", "labels": []}], "'a' has no label"),
        ([{"query": "a", "labels": ["b"], "sort": "x"}], "sort"),
        ([{"query": "a", "labels": ["b"], "pack": "cars"}], "'cars'; there are photos, emoji, symbols"),
        ([{"query": "a", "labels": ["b"], "kind": "photos"}], r"\['photos'\] would be counted in one row"),
        ([{"query": "a", "labels": ["b"], "group": "all"}], r"\['all'\] would be counted in one row"),
    ],
)
def test_a_file_that_holds_no_queries(tmp_path, content, message):
    file = written(tmp_path, content)
    with pytest.raises(InvalidQueriesError, match=message) as raised:
        read_queries(file)
    assert str(file) in str(raised.value)


def test_the_command_asks_on_the_test_split_or_where_told_to(packs, tmp_path, capsys):
    zoo.build_model("mini-test").save_pretrained(tmp_path / "model")
    model = str(tmp_path / "model")
    assert main([model, "--split", "val", "--no-speed"]) == 1  # the packs of the test have no such split
    told = capsys.readouterr().err
    assert "paraphrases left out: their labels are those of the test split" in told
    assert main([model, "--packs", "paraphrases", "--no-speed"]) == 1
    told = capsys.readouterr().err
    assert "left out" not in told
    assert "labels that no image of the split 'test' has" in told


def test_the_queries_are_a_task_by_name(packs, monkeypatch):
    monkeypatch.setattr(tasks, "_mteb", lambda: None)  # importing it takes longer than all the rest; packs need it not
    assert [known.name for known in known_tasks("para*")] == ["paraphrases"]
    [before] = find_jobs(["paraphrases"])
    save(packs / "emoji", [{"image": b"hat", "names": {"en": "top hat"}}])
    [after] = find_jobs(["paraphrases"])
    assert before.key.startswith("paraphrases-test-")
    assert before.key != after.key, "what was measured on other images is not remembered for these"
    with pytest.raises(MissingPackError, match=r"emoji.val\.parquet"):
        find_jobs(["paraphrases"], "val")
