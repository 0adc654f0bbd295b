"""Data of one's own → questions: what columns, folders and judgements ask, and what is refused by name."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tables.train_tables import png
from zoo.comparing import read_questions
from zoo.comparing.questions import Question
from zoo.errors import (
    ArgumentError,
    DuplicateIdError,
    NoCandidatesError,
    NoRightAnswerError,
    NoSplitError,
    NotACandidateError,
    OneClassError,
    QuestionsError,
    TableError,
)
from zoo.tables.options import Options


def table(folder: Path, head: list[str], rows: list[list[object]], name: str = "pairs.csv") -> Path:
    for number in range(8):
        (folder / f"{number}.png").write_bytes(png(30 * number, 20, 200))
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return folder / name


def kinds(questions: list[Question]) -> list[str]:
    return [question.kind for question in questions]


def test_an_image_and_its_text_ask_both_ways(tmp_path: Path):
    rows = [["0.png", "a cat"], ["1.png", "a cat"], ["2.png", "a dog"], ["2.png", "a hound"]]
    (asked,) = read_questions(table(tmp_path, ["image", "text"], rows))
    assert (asked.kind, asked.sides, asked.both) == ("retrieval", ("image", "text"), True)
    assert (len(asked.left), len(asked.right)) == (3, 3), "each content once"
    assert [asked.right_of(row) for row in range(3)] == [0, 0, 1]
    assert asked.source.words == ()
    assert asked.source.name == "pairs"


def test_labels_beside_texts_ask_for_classes_too(tmp_path: Path):
    rows = [["0.png", "one", "cat"], ["1.png", "two", "dog"], ["2.png", "three", "cat"]]
    first, second = read_questions(table(tmp_path, ["image", "text", "label"], rows), class_prompt="a photo of a {}")
    assert (first.kind, second.kind) == ("classes", "retrieval")
    assert [item.text for item in first.right] == ["a photo of a cat", "a photo of a dog"]
    assert first.pairs.tolist() == [[0, 0], [1, 1], [2, 0]]


def test_labels_alone_and_folders_of_classes_ask_the_same(tmp_path: Path):
    rows = [["0.png", "black cat"], ["1.png", "dog"], ["2.png", "dog"]]
    alone = read_questions(table(tmp_path, ["image", "label"], rows))
    for name, place in (("black_cat", 0), ("dog", 1), ("dog", 2)):
        (tmp_path / "tree" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name / f"{place}.png").write_bytes(png(30 * place, 20, 200))
    folder = read_questions(tmp_path / "tree")
    for asked in (alone, folder):
        assert kinds(asked) == ["classes", "retrieval"]
        assert [item.text for item in asked[0].right] == ["black cat", "dog"]
        assert (asked[1].sides, asked[1].both) == (("text", "image"), False), "a name asks for all items of its class"
        assert len(asked[1].left) == 2


def test_scores_are_grades_or_verdicts(tmp_path: Path):
    rows = [["a", "b", 0.1], ["c", "d", 0.9], ["e", "f", 0.5]]
    (graded,) = read_questions(table(tmp_path, ["sentence1", "sentence2", "score"], rows))
    assert (graded.kind, graded.values.tolist()) == ("grades", [0.1, 0.9, 0.5])
    rows = [["a", "b", 0], ["c", "d", 1], ["a", "f", 1]]
    (judged,) = read_questions(table(tmp_path, ["sentence1", "sentence2", "score"], rows))
    assert (judged.kind, len(judged.left)) == ("verdicts", 2)


def test_an_image_with_a_change_in_words_is_no_answer_to_itself(tmp_path: Path):
    head = ["query_image", "query_text", "positive_image"]
    (asked,) = read_questions(table(tmp_path, head, [["0.png", "in blue", "1.png"], ["1.png", "larger", "2.png"]]))
    assert (asked.sides, asked.both) == (("image+text", "image"), False)
    assert len(asked.right) == 3, "the image that is to be changed is a candidate of the others"
    left_out = [asked.contents[1].tolist().index(number) for number in asked.spared]
    assert [asked.right[place].image.name for place in left_out] == ["0.png", "1.png"]


def test_negatives_are_candidates(tmp_path: Path):
    head = ["query", "positive", "negative_1", "negative_2"]
    (asked,) = read_questions(table(tmp_path, head, [["q", "a", "b", "c"], ["r", "b", "a", "d"]]))
    assert {item.text for item in asked.right} == {"a", "b", "c", "d"}


def test_pairs_in_memory():
    (asked,) = read_questions([("a", "b"), ("c", "d")])
    assert asked.kind == "retrieval"
    (judged,) = read_questions([("a", "b", 0.2), ("c", "d", 0.7)])
    assert judged.kind == "grades"
    for wrong, why in (([("a",)], "pairs\\[0\\]"), ([("a", "b", "c")], "score of pairs\\[0\\]"), (5, "not int")):
        with pytest.raises(ArgumentError, match=why):
            read_questions(wrong)
    with pytest.raises(QuestionsError, match="no pairs"):
        read_questions([])


def test_what_asks_nothing_is_named(tmp_path: Path):
    rows = [["0.png", "cat"], ["1.png", "cat"]]
    with pytest.raises(OneClassError, match="all 2 items are of the class 'cat'"):
        read_questions(table(tmp_path, ["image", "label"], rows))
    with pytest.raises(OneClassError, match="all 2 pairs have the score 1"):
        read_questions(table(tmp_path, ["sentence1", "sentence2", "score"], [["a", "b", 1], ["c", "d", 1]]))
    with pytest.raises(TableError, match="there is no text"):
        read_questions(table(tmp_path, ["image"], [["0.png"], ["1.png"]]))
    with pytest.raises(QuestionsError, match="none of 1 rows is a pair"):
        read_questions(table(tmp_path, ["image", "text"], [["gone.png", "a"]]))
    with pytest.raises(ArgumentError, match="class_prompt must hold"):
        read_questions([("a", "b")], class_prompt="a photo")
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.png").write_bytes(png(0, 20, 200))
    with pytest.raises(TableError, match="no sub-folder"):
        read_questions(images)


# ------------------------------------------------------------------------------------------------- judged folders


def judged(folder: Path, judgements: list[tuple], corpus: list[dict] | None = None, qrels: str = "qrels.tsv") -> Path:
    corpus = [{"_id": f"d{n}", "title": "T", "text": f"document {n}"} for n in range(4)] if corpus is None else corpus
    queries = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(3)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / qrels).parent.mkdir(exist_ok=True)
    lines = [("query-id", "corpus-id", "score"), *judgements]
    (folder / qrels).write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return folder


def test_a_judged_folder_is_asked_among_its_whole_corpus(tmp_path: Path):
    (asked,) = read_questions(judged(tmp_path, [("q0", "d1", 2), ("q0", "d2", 1), ("q1", "d3", 1), ("q1", "d0", 0)]))
    assert (len(asked.left), len(asked.right), asked.both) == (2, 4, False)
    assert asked.right[0].text == "T document 1", "title and text are one"
    assert sorted(asked.gains.values()) == [1, 1, 2]
    assert asked.source.note == "1 queries without a judgement not asked"
    assert asked.source.bad == ()


def test_documents_of_the_same_content_are_right_too(tmp_path: Path):
    corpus = [{"_id": n, "text": text} for n, text in enumerate(["same", "same", "other"])]
    (asked,) = read_questions(judged(tmp_path, [("q0", 0, 1)], corpus))
    assert len(asked.right) == 2, "ranked once"


def test_the_split_of_judgements(tmp_path: Path):
    judged(tmp_path, [("q0", "d1", 1)], qrels="qrels/dev.tsv")
    judged(tmp_path, [("q1", "d1", 1)], qrels="qrels/test.tsv")
    assert read_questions(tmp_path)[0].left[0].text == "query 1"
    asked = read_questions(tmp_path, Options(split="validation"))[0]
    assert (asked.left[0].text, asked.source.split) == ("query 0", "validation")
    with pytest.raises(NoSplitError, match="no split 'train'"):
        read_questions(tmp_path, Options(split="train"))


CORPUS = [{"_id": "d0", "text": "a"}, {"_id": "d0", "text": "b"}]
WRONG = {
    "a gold that is no candidate": (
        [("q0", "d9", 1)],
        None,
        NotACandidateError,
        "'d9' of query 'q0' is not in the corpus",
    ),
    "an unknown query": ([("q9", "d1", 1)], None, QuestionsError, "no query 'q9'"),
    "no right answer": (
        [("q0", "d1", 0)],
        None,
        NoRightAnswerError,
        "'q0' has 1 judgements, and none of them names a right",
    ),
    "an id twice": ([("q0", "d0", 1)], CORPUS, DuplicateIdError, "line 2: the id 'd0' comes twice"),
    "judged twice": ([("q0", "d1", 1), ("q0", "d1", 2)], None, QuestionsError, "judged twice, 1 and 2"),
    "no number": ([("q0", "d1", "good")], None, TableError, "the grade is 'good', not a number"),
    "no column of ids": ([("q0", "d1", 1)], [{"text": "a"}], TableError, "no column of ids"),
    "nothing to rank": ([("q0", "d1", 1)], [{"_id": "", "text": "a"}], NoCandidatesError, "the corpus is empty"),
}


@pytest.mark.parametrize("what", WRONG)
def test_judgements_that_cannot_be_followed_are_named(what: str, tmp_path: Path):
    judgements, corpus, error, why = WRONG[what]
    with pytest.raises(error, match=why):
        read_questions(judged(tmp_path, judgements, corpus))


def test_a_folder_without_judgements_says_what_to_write(tmp_path: Path):
    judged(tmp_path, [("q0", "d1", 1)])
    (tmp_path / "qrels.tsv").unlink()
    with pytest.raises(TableError, match=r"write qrels\.tsv with the columns"):
        read_questions(tmp_path)


def test_a_judged_folder_opens_nothing_outside_itself(tmp_path: Path):
    folder = tmp_path / "given"
    folder.mkdir()
    judged(folder, [("q0", "d1", 1)])
    (folder / "corpus.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (folder / "corpus.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(TableError, match="leads out of the folder"):
        read_questions(folder)
    assert read_questions(folder, Options(allow_outside=True))
    image = tmp_path / "secret.png"
    image.write_bytes(png(1, 20, 200))
    (folder / "corpus.jsonl").unlink()
    rows = [{"_id": "d0", "image": str(image)}, {"_id": "d1", "image": "own.png"}]
    (folder / "own.png").write_bytes(png(2, 20, 200))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (asked,) = read_questions(folder)
    assert [item.image.name for item in asked.right] == ["own.png"]
    assert "secret.png" in asked.source.bad[0]


def test_gains_are_those_of_the_judgements(tmp_path: Path):
    import torch

    from zoo.comparing.scoring import scores_of

    (asked,) = read_questions(judged(tmp_path, [("q0", "d1", 1), ("q0", "d2", 3)]))
    right = torch.tensor([[0.9], [0.1], [0.5], [0.7]])  # d1, d2 (the right ones come first), then d0, d3
    there = np.ones(1, bool), np.ones(4, bool)
    (scores,) = scores_of(asked, torch.ones(1, 1), right, there)
    found = 1 / np.log2(2) + 3 / np.log2(5)
    assert scores.figures["ndcg@10"].value == pytest.approx(found / (3 / np.log2(2) + 1 / np.log2(3)))
