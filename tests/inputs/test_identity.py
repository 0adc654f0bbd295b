"""What is the same thing and what is right for what, against loops over the rows themselves."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.inputs.identity import Answers, Contents, Right, Row
from zoo.inputs.item import Item

ONE, OTHER = (b"\x89PNG\r\n\x1a\n" + words for words in (b"one image", b"the other"))


def text(words: str) -> Item:
    return Item(text=words)


# ------------------------------------------------------------------------------------------------ contents


@pytest.fixture
def files(tmp_path, monkeypatch):
    """a.png and its copy, b.png of the same length, c.png of another; and a list of the files that are read."""
    for name, content in (
        ("a.png", ONE),
        ("copy.png", ONE),
        ("b.png", OTHER),
        ("c.png", b"c"),
    ):
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    read, plain = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or plain(path))
    return tmp_path, read


def numbers(*items: Item) -> list[int]:
    contents = Contents()
    return [contents.number(item) for item in items]


def test_a_file_is_its_bytes_whatever_it_is_called(files):
    folder, _ = files
    names = (
        Path("a.png"),
        Path("./a.png"),
        folder / "a.png",
        Path("copy.png"),
        ONE,
        bytearray(ONE),
    )
    for order in (names, names[::-1], (names[4], names[3], names[0])):
        assert set(numbers(*(Item(image=name) for name in order))) == {0}
    assert numbers(Item(image=Path("a.png")), Item(image=Path("b.png")), Item(image=OTHER)) == [0, 1, 1]
    assert numbers(Item(image=Path("a.png")), Item(video=Path("a.png")), Item(audio=ONE)) == [0, 1, 2]


def test_files_are_read_only_where_another_is_as_long(files):
    folder, read = files
    for i in range(40):
        (folder / f"{i}.bin").write_bytes(b"x" * (20 + i))
    assert len(set(numbers(*(Item(video=folder / f"{i}.bin") for i in range(40)), Item(video=b"x" * 19)))) == 41
    assert read == []
    # As long as another, but beside another text: still nothing to compare.
    assert numbers(
        Item(image=Path("a.png"), text="x"), Item(image=Path("b.png"), text="y"), Item(image=Path("a.png"))
    ) == [0, 1, 2]
    assert read == []
    assert numbers(*(Item(image=Path(name)) for name in ("a.png", "c.png", "b.png", "a.png", "b.png"))) == [
        0,
        1,
        2,
        0,
        2,
    ]
    assert read == ["a.png", "b.png"]  # each once
    read.clear()
    assert numbers(Item(image=ONE), Item(image=Path("copy.png")), Item(image=Path("copy.png"))) == [0, 0, 0]
    assert read == ["copy.png"]


def test_all_parts_and_the_instruction_count(files):
    image = Item(image=Path("a.png"))
    varied = [
        image,
        Item(image=Path("a.png"), text="red"),
        Item(image=Path("a.png"), text="red", instruction="find"),
        Item(image=Path("a.png"), text="red", instruction="tell"),
        Item(parts=("red", Path("a.png"))),
        Item(parts=(Path("a.png"), "red")),
        Item(text="red"),
        Item(text="red "),
    ]
    assert numbers(*varied) == list(range(8))
    again = [
        Item(image=ONE),
        Item(image=Path("copy.png"), text="red"),
        Item(parts=("red", Path("copy.png"))),
    ]
    assert numbers(*varied, *again)[8:] == [0, 1, 4]


def test_pixels_frames_and_files_that_are_not_there():
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    image = Image.fromarray(array)
    assert numbers(Item(image=array), Item(image=array.copy()), Item(image=array + 1)) == [0, 0, 1]
    assert numbers(Item(image=image), Item(image=image.copy()), Item(image=image.rotate(90))) == [0, 0, 1]
    assert numbers(Item(video=[image, image]), Item(video=[image])) == [0, 1]
    gone = [Item(image=Path(name)) for name in ("gone.png", "lost.png", "gone.png")]
    assert numbers(*gone) == [0, 1, 0]
    untold = Item(image=object())
    assert numbers(untold, untold) == [0, 1]  # like no other, not even itself


# ------------------------------------------------------------------------------------------------ answers


def random_rows(rng: random.Random) -> list[Row | None]:
    """Rows with shared queries, answers and groups, queries among the answers, and rows that cannot be read."""
    queries, answers = rng.randint(1, 8), rng.randint(1, 8)

    def answer() -> Item:
        return text(f"a{rng.randrange(answers)}" if rng.random() < 0.8 else f"q{rng.randrange(queries)}")

    rows: list[Row | None] = []
    for _ in range(rng.randint(2, 12)):
        others = [text(f"a{rng.randrange(answers + 3)}") for _ in range(2)]
        group = rng.choice(["", "", "g", "h"])
        rows.append(
            Row(text(f"q{rng.randrange(queries)}"), [answer() for _ in range(rng.randint(1, 3))], others, group)
        )
    return rows if rng.random() < 0.7 else [*rows[:1], None, *rows[1:]]


def is_right(rows: list[Row | None], query: str, target: str) -> bool:
    """From the definition, by a loop over the rows."""
    there = [row for row in rows if row is not None]
    groups = {row.group for row in there if row.query.text == query and row.group}
    mine = [row for row in there if row.query.text == query or row.group in groups]
    return any(target == answer.text for row in mine for answer in row.answers)


def matrix(rows, queries, targets) -> torch.Tensor:
    return torch.tensor([[target is not None and is_right(rows, q, target) for target in targets] for q in queries])


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_equals_a_loop_over_the_rows(seed):
    for turn in range(5):
        check_a_batch(random.Random(5 * seed + turn))


def check_a_batch(rng: random.Random) -> None:
    rows = random_rows(rng)
    answers = Answers(rows)
    picked = rng.choices([i for i, row in enumerate(rows) if row is not None], k=rng.randint(1, 6))
    words = {
        answers.contents.number(item): item.text
        for row in rows
        if row
        for item in (row.query, *row.answers, *row.others)
    }
    queries = [int(answers.of(i)[0]) for i in picked]
    targets = [int(answers.of(i)[1 + rng.randrange(answers.counts[i])]) for i in picked]
    targets += [-1 if rng.random() < 0.1 else int(n) for i in picked for n in answers.of(i)[-2:]]
    right = answers.right(torch.tensor(queries), torch.tensor(targets))
    asked, found = [words[n] for n in queries], [words.get(n) for n in targets]
    count = len(asked)
    whole, positives = slice(0, count), found[:count]
    expected = matrix(rows, asked, found)
    assert torch.equal(right.answers(whole), expected)
    assert torch.equal(right.answers(slice(1, 3)), expected[1:3])
    assert torch.equal(right.askers(whole), expected[:, :count].T)
    assert torch.equal(right.askers(slice(0, len(found)), "target"), expected.T)
    empty = torch.tensor([[t is None for t in found]])
    same = torch.tensor([[q == t for t in found] for q in asked])
    assert torch.equal(right.spared(whole), expected | same | empty)
    known = (expected | same)[:, :count]
    assert torch.equal(right.spared(whole, "positive", "query"), known.T)
    equal = torch.tensor([[a == b for b in positives] for a in positives])
    assert torch.equal(right.spared(whole, "positive", "positive"), known | known.T | equal)
    of_queries = matrix(rows, asked, asked)
    equal = torch.tensor([[a == b for b in asked] for a in asked])
    assert torch.equal(right.spared(whole, "query", "query"), known | known.T | equal | of_queries | of_queries.T)
    alone = torch.equal(expected | same | empty, torch.eye(count, len(found), dtype=torch.bool))
    assert alone or not right.plain
    lines, numbers_of_right = answers.right_for(np.array(queries))
    found_right = {(int(line), words[int(n)]) for line, n in zip(lines, numbers_of_right, strict=True)}
    assert found_right == {(i, t) for i, q in enumerate(asked) for t in words.values() if is_right(rows, q, t)}


def test_either_way_of_looking_up_finds_the_same():
    """Many queries of few answers, and few queries of many answers: sets are determined by the shorter lists."""
    rows = [Row(text(f"image {i}"), [text(f"label {i % 3}")]) for i in range(60)]
    rows += [Row(text(f"word {i % 3}"), [text(f"photo {i}")]) for i in range(60)]
    answers = Answers(rows)
    for picked in (range(6), range(60, 66), (1, 61, 4, 64)):
        both = np.array([answers.of(i) for i in picked])
        expected = matrix(rows, [rows[i].query.text for i in picked], [rows[i].answers[0].text for i in picked])
        assert torch.equal(answers.right(both[:, 0], both[:, 1]).answers(slice(None)), expected)


def test_a_batch_without_repeats_is_plain_and_costs_nothing():
    answers = Answers([Row(text(f"q{i}"), [text(f"a{i}")], [text(f"n{i}")]) for i in range(8)])
    both = np.array([answers.of(i) for i in range(8)])
    assert answers.right(both[:, 0], np.concatenate([both[:, 1], both[:, 2]])).plain
    assert not answers.right(both[[0, 0], 0], both[[0, 0], 1]).plain
    assert not answers.right(both[:2, 0], np.concatenate([both[:2, 1], [-1, -1]])).plain
    assert not answers.right(both[:2, 0], np.concatenate([both[:2, 1], both[[1, 0], 1]])).plain


def test_an_answer_of_many_queries_does_not_join_them():
    rows = [
        Row(text("cat"), [text("an animal"), text("it purrs")]),
        Row(text("dog"), [text("an animal"), text("it barks")]),
    ]
    answers = Answers(rows)
    both = np.array([answers.of(0), answers.of(1)])
    right = answers.right(both[:, 0], both[:, 2])
    assert right.answers(slice(None)).tolist() == [[True, False], [False, True]]
    grouped = Answers([row._replace(group="animals") for row in rows])
    assert bool(grouped.right(both[:, 0], both[:, 2]).answers(slice(None)).all())


def test_rows_of_a_stage_are_told_by_all_rows():
    rows = [Row(text("q"), [text("a")]), None, Row(text("q"), [text("b")]), Row(text("r"), [text("b")])]
    part = Answers(rows).at(np.array([3, 0, 1]))
    assert len(part) == 3
    assert part.sizes.tolist() == [2, 2, 0]
    right = part.right([part.of(1)[0]], [part.of(1)[1], part.of(0)[1]])
    assert right.answers(slice(None)).tolist() == [[True, True]]  # "b" answers "q" in a row outside


def test_means_of_a_table():
    answers = Answers([Row(text(f"q{i // 5}"), [text(f"a{i}")]) for i in range(20)])
    assert (answers.per_query, answers.per_answer) == (5, 1)
    answers = Answers([Row(text(f"q{i}"), [text(f"a{i % 4}"), text("all")]) for i in range(20)])
    assert (answers.per_query, answers.per_answer) == (2, (4 * 5 + 20) / 5)
    answers = Answers([Row(text(f"q{i}"), [text(f"a{i}")], group=f"g{i % 2}") for i in range(20)])
    assert (answers.per_query, answers.per_answer) == (10, 10)
    assert Answers([]).per_query == 0


def test_targets_ask_for_nothing():
    one = torch.tensor([0])
    right = Right(one, one + 1, one[:, None], torch.tensor([[0, 1]]), sets=1, items=2)
    with pytest.raises(ValueError, match="a target is never told from a query"):
        right.spared(slice(None), "target", "query")
