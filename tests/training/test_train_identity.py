"""Every positive of a table trains and none is a negative: from the cells to the gradient, and to the words about it."""

import csv
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from zoo.training import Pair, mine, open_pairs, rehearse, train
from zoo.training.corpus import PairCorpus
from zoo.training.errors import PairsError
from zoo.training.losses import build_loss, list_losses
from zoo.training.losses.base import Loss
from zoo.training.losses.infonce import InfoNCE
from zoo.training.rows import set_aside
from zoo.training.run import Run
from zoo.training.samplers import describe_samplers
from zoo.training.self_positioning import Probe
from zoo.training.trainer import make_feed

from tests.training.loss_support import right_of, units
from tests.training.train_support import PAINTS, SHAPES, fresh, make_image, quick, remove, same_weights, text_pairs
from zoo.evaluation.pairs import evaluate_pairs
from zoo.inputs.item import Item
from zoo.tables.pairs import Selection, answers_of

CALM = {"progress": False, "trackers": (), "report": False}


def text(words: str) -> Item:
    return Item(text=words)


# ------------------------------------------------------------------------------------------------ losses

# How each loss that tells a query from the other rows is written here; the rest has no in-batch negatives. SupCon is at
# a temperature at which no positive has more than its share, where its slope turns by definition.
IN_BATCH = {
    "adaptive_margin": ["adaptive_margin(temperature=0.5)"],
    "angle": ["angle(temperature=0.5)"],
    "distillation": ["distillation(temperature=0.5, infonce=1.0)"],
    "focal": ["focal(temperature=0.5)"],
    "gist": ["gist(temperature=0.5)"],
    "guided": ["infonce(temperature=0.5) + guided(margin=0.1)"],
    "hardness": ["hardness(temperature=0.5, alpha=1.0)"],
    "infonce": [
        "infonce(temperature=0.5)",
        "infonce(temperature=0.5, query_query=True, positive_positive=True)",
        "infonce(temperature=5, multi_positive=True, query_query=True, positive_positive=True)",
        "infonce(temperature=0.5, symmetric=False, in_batch=False)",
    ],
    "margin": ["margin(0.3, temperature=0.5)"],
    "matryoshka": ["matryoshka(dims=[40]):infonce(temperature=0.5)"],
    "mixing": ["mixing(temperature=0.5, pairs=2)", "mixing(temperature=5, multi_positive=True)"],
    "progressive": ["progressive(temperature=0.5)", "progressive(temperature=0.5, mode='negatives')"],
    "ranking": ["ranking(margin=1.0)", "ranking(margin=1.0, negatives='max')", "ranking(negatives='semi-hard')"],
    "sigmoid": ["sigmoid(bias=0.0)"],
    "softened": ["softened(temperature=0.5)"],
    "stable_distillation": ["stable_distillation(temperature=0.5, infonce=0.5)"],
}
# No negatives; wrappers of several layers around these.
ELSEWHERE = {"cosent", "imitation", "layers", "matryoshka_2d", "starbucks"}


def test_every_loss_is_here():
    assert set(IN_BATCH) | ELSEWHERE == set(list_losses("embedders"))
    assert "right" not in build_loss("cosent").may_read


@pytest.mark.parametrize("written", [written for ways in IN_BATCH.values() for written in ways])
def test_no_loss_pushes_a_right_target_away(written):
    """All vectors are independent, so that a gradient tells each similarity's own slope: above 0 it pushes apart."""
    torch.manual_seed(1)
    count, negatives = 6, 2
    queries, targets = units(count, 40, grad=True), units(count * (1 + negatives), 40, grad=True)
    right = torch.rand(count, len(targets)) < 0.35
    right[range(count), range(count)] = True
    loss = build_loss(written).double()
    extras = {
        "right": right_of(right),
        "teacher_queries": queries.detach(),  # so the divergence from the teacher is 0, and its slope
        "teacher_targets": targets.detach(),
        "teacher_scores": torch.rand(count, 1 + negatives, dtype=torch.float64),
        "scores": torch.ones(count, dtype=torch.float64),
        "progress": 0.4,
    }
    value = loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
    of_queries, of_targets = torch.autograd.grad(value, (queries, targets))
    basis = torch.cat([targets, queries]).detach()
    slopes = torch.linalg.lstsq(basis.T, of_queries.T).solution.T
    others = torch.linalg.lstsq(basis.T, of_targets.T).solution.T
    to_targets, to_queries = slopes[:, : len(targets)], slopes[:, len(targets) :]
    tiny = 1e-9
    assert (to_targets[right] < tiny).all()
    assert (to_targets[~right] > 1e-6).any()  # and what is wrong is pushed
    alike = right[:, :count] | right[:, :count].T
    assert (to_queries[alike] < tiny).all()
    assert (others[:count, :count][alike] < tiny).all()
    if "query_query" in written:
        assert (to_queries[~alike] > 1e-6).any()
        assert (others[:count, :count][~alike] > 1e-6).any()


# ------------------------------------------------------------------------------------------------ tables


@pytest.fixture
def folder(tmp_path):
    """Twelve images, and copies of them under other names."""
    for name in ("img", "copies"):
        (tmp_path / name).mkdir()
    for i, (shape, paint) in enumerate((shape, paint) for shape in SHAPES for paint in PAINTS):
        Image.fromarray(make_image(shape, paint)).save(tmp_path / "img" / f"{i}.png")
        shutil.copy(tmp_path / "img" / f"{i}.png", tmp_path / "copies" / f"{i}.png")
    return tmp_path


def write(path, columns, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


NAMES = ("img/{}.png", "./img/{}.png", "copies/{}.png")


def named(kind: str, thing: int, way: int = 0) -> str:
    """An image under one of its names, or the words for it."""
    return NAMES[way % 3].format(thing % 12) if kind == "image" else f"the words number {thing}"


def shaped(folder, kinds: tuple[str, str], grouped: bool):
    """Six queries with two answers each, as rows of their own; the negatives are the other answer of the same query, the
    own one once more, an answer of another query, and one that is wrong for all, by other names."""
    rows = []
    for query in range(6):
        for turn in range(2):
            own, other = (2 * query + (turn + k) % 2 for k in (0, 1))
            found = [other, own, (own + 2) % 12]
            row = [named(kinds[0], query, turn), named(kinds[1], own)]
            row += [named(kinds[1], thing, way) for way, thing in enumerate(found, 1)]
            rows.append([*row, *([f"group {query}"] if grouped else [])])
    columns = [f"query_{kinds[0]}", f"positive_{kinds[1]}", *(f"negative_{k}_{kinds[1]}" for k in range(3))]
    return write(folder / "pairs.csv", columns + ["group"] * grouped, rows)


def content(item: Item) -> object:
    """What a thing is, by itself."""
    image = item.image
    return item.text, image.read_bytes() if hasattr(image, "read_bytes") else image


def told(pairs, query: Item, target: Item) -> bool:
    """Whether some row says that a target is right, by comparing everything with everything."""
    mine = [pair for pair in pairs if content(pair.query) == content(query)]
    groups = {pair.group for pair in mine if pair.group}
    mine += [pair for pair in pairs if pair.group in groups]
    return any(content(target) == content(answer) for pair in mine for answer in (pair.positive, *pair.extra_positives))


class Watch(InfoNCE):
    """Counts targets that have the very vector of a right answer of a row, and of these the ones that are not masked."""

    def __init__(self, positives: int, **options):
        super().__init__(symmetric=False, **options)
        self.positives, self.met, self.missed, self.false = positives, 0, 0, 0

    def forward(self, queries, targets, **extras):
        count = len(queries)
        alike = (targets[:, None] - targets[None]).abs().amax(2) < 1e-5
        asked = (queries[:, None] - queries[None]).abs().amax(2) < 1e-5
        answers = (asked.float() @ alike[:count].float()) > 0  # of all rows of the batch with the same query
        spared = extras["right"].spared(slice(None)) if "right" in extras else torch.zeros_like(answers)
        answers[range(count), range(count)] = False
        self.met += int(answers.sum())
        self.missed += int((answers & ~spared).sum())
        return super().forward(queries, targets, **extras)


@pytest.mark.parametrize(
    "kinds", [("image", "text"), ("text", "image"), ("image", "image"), ("text", "text")], ids="-".join
)
@pytest.mark.parametrize("grouped", [False, True], ids=["by content", "by group"])
def test_no_right_answer_of_a_table_is_a_negative(kinds, grouped, folder):
    pairs = open_pairs(shaped(folder, kinds, grouped))
    assert len(pairs) == 12
    loss = Watch(2)
    train(fresh(), pairs, quick(batch_size=12, steps=2, negatives=3), folder / "run", loss=loss, **CALM)
    # Each row meets its positive as its own second negative and as the first of its query's other row, the other answer
    # twice as well and as that row's positive, and both once or twice among the rows whose third negatives they are.
    assert loss.met >= 2 * 12 * 5
    assert loss.missed == 0


@pytest.mark.parametrize("sampler", [name for name, _ in describe_samplers()])
def test_every_sampler_gives_batches_that_equal_a_loop(sampler, folder):
    pairs = open_pairs(shaped(folder, ("image", "image"), False))
    pairs = [
        replace(pair, dataset="ab"[i % 2], extra_positives=pairs[(i + 5) % 12].extra_positives)
        for i, pair in enumerate(pairs)
    ]
    pairs += [replace(pair, query=Item(image=content(pair.query)[1])) for pair in pairs[:6]]  # bytes for their files
    written = {"no_duplicates": 'no_duplicates(by="query")', "interleaved": "interleaved(sub_batch=2)"}.get(
        sampler, sampler
    )
    feed = make_feed(fresh(), pairs, quick(sampler=written, batch_size=6, negatives=2), folder / "run", progress=False)
    met = 0
    for step in range(3):
        batch = feed.batch(step)
        places = [feed.places(row, step) for row in batch.rows]
        items = [
            [list(pairs[row].items())[slot] for slot in slots] for row, slots in zip(batch.rows, places, strict=True)
        ]
        targets = [line[1] for line in items] + [item for line in items for item in line[2:]]
        expected = torch.tensor([[told(pairs, line[0], target) for target in targets] for line in items])
        found = batch.answers.right(batch.numbers[:6], batch.numbers[6:])
        assert torch.equal(found.answers(slice(None)), expected)
        met += int(expected.sum()) - 6
    assert met > 6


# ------------------------------------------------------------------------------------------------ lists


def listed(folder, counts=(3, 1, 5, 2, 3, 3, 3, 3)):
    """A table with a list of captions for each image."""
    lines = [
        {"image": f"img/{i}.png", "captions": [f"caption {k} of image {i}" for k in range(count)]}
        for i, count in enumerate(counts)
    ]
    (folder / "lists.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return open_pairs(folder / "lists.jsonl"), [line["captions"] for line in lines]


@pytest.fixture
def trained(monkeypatch):
    """For every step, the captions at each pair's places in the batch: [positive, further targets ...]."""
    steps, plain = [], Run.advance

    def advance(run, batch):
        words = {
            batch.answers.contents.number(text(f"caption {k} of image {i}")): (i, k) for i in range(8) for k in range(5)
        }
        count = len(batch.queries)
        places = [words.get(number) for number in batch.numbers.tolist()[count:]]
        steps.append([[places[i], *places[count + i * batch.negatives :][: batch.negatives]] for i in range(count)])
        return plain(run, batch)

    monkeypatch.setattr(Run, "advance", advance)
    return steps


def test_every_caption_of_a_list_trains(folder, trained):
    pairs, captions = listed(folder)
    train(fresh(), pairs, quick(batch_size=8, steps=5), folder / "run", **CALM)
    for i, texts in enumerate(captions):
        drawn = [k for step in trained for ((row, k),) in step if row == i]
        assert len(drawn) == 5
        assert len(set(drawn[: len(texts)])) == len(texts)  # each once before any comes again
    first = [k for ((_, k),) in trained[0]]
    assert len(set(first)) > 1  # the pairs do not walk in step
    other = [[k for ((_, k),) in step] for step in trained]
    trained.clear()
    train(fresh(), pairs, quick(batch_size=8, steps=5, seed=1), folder / "other", **CALM)
    assert other != [[k for ((_, k),) in step] for step in trained]


def test_all_captions_of_a_list_are_targets_where_the_loss_says_so(folder, trained):
    pairs, captions = listed(folder)
    train(fresh(), pairs, quick(batch_size=8, steps=3, loss="infonce(multi_positive=True)"), folder / "run", **CALM)
    for step in trained:
        for line in step:
            (row,) = {place[0] for place in line if place is not None}
            own = [place[1] for place in line if place is not None]
            assert len(set(own)) == len(own) == min(3, len(captions[row]))  # most lists hold three
    shown = {tuple(sorted(k for _, k in line)) for step in trained for line in step if line[0][0] == 2}
    assert {k for some in shown for k in some} == set(range(5))  # a longer list takes turns


@pytest.mark.parametrize("loss", ["infonce", "infonce(multi_positive=True)"])
def test_a_run_over_lists_goes_on_bit_by_bit(loss, folder):
    pairs, _ = listed(folder)
    recipe = quick(batch_size=4, loss=loss)
    whole = train(fresh(), pairs, recipe, folder / "whole", **CALM)
    stopped = folder / "stopped"
    train(fresh(), pairs, recipe, stopped, **CALM)
    remove(stopped / "checkpoints" / "step-00000006")
    assert same_weights(whole, train(fresh(), pairs, recipe, stopped, resume=True, **CALM))


def test_several_positives_equal_supcon_with_places_left_empty(folder):
    """Lists of one, two and three captions in slots for three, beside a hard negative; by loops over the captions."""
    pairs, captions = listed(folder, (3, 1, 2, 3))
    pairs = [replace(pair, negatives=(text(captions[(i + 1) % 4][0]),)) for i, pair in enumerate(pairs)]
    recipe = quick(batch_size=4, loss="infonce(multi_positive=True)")
    batch = make_feed(fresh(), pairs, recipe, folder / "run", progress=False).batch(0)
    assert batch.negatives == 3
    queries, targets = units(4, 6), units(16, 6)
    loss = InfoNCE(0.5, symmetric=False, multi_positive=True).double()
    value = loss(queries, targets, right=batch.answers.right(batch.numbers[:4], batch.numbers[4:]))
    total, contents = 0.0, batch.answers.contents
    for i, row in enumerate(batch.rows):
        own = [contents.number(text(caption)) for caption in captions[row]]
        logits = {
            j: float(queries[i] @ targets[j]) * loss.scale.item()
            for j, n in enumerate(batch.numbers[4:].tolist())
            if n >= 0
        }
        positives = [j for j in logits if int(batch.numbers[4 + j]) in own]
        assert len(positives) >= len(own)
        total += sum(math.log(sum(map(math.exp, logits.values()))) - logits[j] for j in positives) / len(positives)
    assert (batch.numbers == -1).sum() == 2 + 1  # of the lists of one and two
    assert value.item() == pytest.approx(total / 4, rel=1e-6)


def test_a_teacher_knows_every_caption_and_a_score_is_of_one(folder):
    pairs, _ = listed(folder)
    train(
        fresh(), pairs, quick(batch_size=8, loss="gist", teacher="zoo-mini", freeze=("text",)), folder / "run", **CALM
    )
    scored = [replace(p, extra_positives=(text("and so"),), teacher_scores=(0.9, 0.1)) for p in text_pairs(8, 1)]
    with pytest.raises(
        PairsError, match=r"texts, line 1 has 2 positives, .* teacher_scores, which are of the first alone"
    ):
        train(fresh("text-test"), scored, quick(loss="distillation(space='group')"), folder / "no", **CALM)


# ------------------------------------------------------------------------------------------------ one notion


def test_trainer_evaluator_miner_and_probe_count_the_same(folder):
    pairs = list(open_pairs(shaped(folder, ("text", "image"), False)))
    pairs[3] = replace(pairs[3], extra_positives=(Item(image=(folder / "copies" / "9.png").read_bytes()),))
    pairs[7] = replace(pairs[7], group="one")
    pairs[0] = replace(pairs[0], group="one")
    model = fresh()
    feed = make_feed(model, pairs, quick(batch_size=12), folder / "run", progress=False)
    queries = {content(pair.query): pair.query for pair in pairs}
    candidates = {content(pair.positive): pair.positive for pair in pairs}
    expected = [sum(told(pairs, query, target) for target in candidates.values()) for query in queries.values()]
    assert len(set(expected)) > 1
    # The evaluator.
    alone = [(p.query, answer, p.group) for p in pairs for answer in (p.positive, *p.extra_positives)]
    scores = evaluate_pairs(model, *zip(*alone, strict=True))
    assert scores.forward.right.tolist() == expected
    assert scores.forward.candidates == len(candidates)
    assert sum(scores.backward.right) == sum(expected)
    # The trainer.
    contents = feed.answers.contents
    numbers = [[contents.number(item) for item in side.values()] for side in (queries, candidates)]
    assert feed.answers.right(*numbers).answers(slice(None)).sum(1).tolist() == expected
    # The miner.
    pair_corpus = PairCorpus(set_aside(pairs, 0), ())
    first = [next(i for i, p in enumerate(pairs) if content(p.query) == key) for key in queries]
    lines, documents = pair_corpus.own(torch.tensor(first))
    own = [{content(pair_corpus.document(int(d))) for d in documents[lines == line]} for line in range(len(first))]
    assert [len(some & set(candidates)) for some in own] == expected
    mined = mine(pairs, model, negatives=2, ranks=(0, 12), relative_margin=None)
    assert not any(told(pairs, pair.query, negative) for pair in mined for negative in pair.negatives)
    # The probe of merging.
    probe = Probe(pairs, model)
    right = probe._right("pairs", list(range(12)))
    assert right.answers(slice(None)).tolist() == [[told(pairs, a.query, b.positive) for b in pairs] for a in pairs]


def test_a_list_of_captions_and_a_row_for_each_have_the_same_figures(folder):
    lists, captions = listed(folder)
    rows = [[f"img/{i}.png", caption] for i, some in enumerate(captions) for caption in some]
    table = open_pairs(write(folder / "rows.csv", ["image", "text"], rows))
    figures = []
    for name, held_out in (("lists", lists), ("rows", table)):
        train(fresh(), text_pairs(8), quick(steps=1), folder / name, held_out=held_out, **CALM)
        figures.append(json.loads((folder / name / "scores.json").read_text())["before"])
    assert figures[0] == figures[1]
    assert figures[0]["forward"]["right"] == [len(some) for some in captions]


def test_held_out_queries_are_told_by_content(folder):
    from zoo.training.finalize import hold_out

    rows = [[named("image", i, way), f"words {i} {way}"] for i in range(12) for way in range(3)]
    learned, kept = hold_out(open_pairs(write(folder / "p.csv", ["image", "text"], rows)), None, quick(holdout=0.2))
    sides = [{content(pair.query)[1] for pair in side} for side in (learned, kept)]
    assert len(kept) % 3 == 0 < len(kept)
    assert not sides[0] & sides[1]


def test_a_query_among_its_candidates_is_out_of_the_ranking():
    """The words of a paraphrase are a candidate of other rows: not right, and no mistake either."""
    model = fresh("text-test").eval()
    words = ["the cat", "a cat", "the dog", "a dog", "the cow"]
    queries, targets = words, [*words[1:], words[0]]
    scores = evaluate_pairs(model, list(map(text, queries)), list(map(text, targets)))
    asked, ranked = (model.encode(words, **model.for_role(role)) for role in ("query", "document"))
    for i, rank in enumerate(scores.forward.ranks.tolist()):
        own = float(asked[i] @ ranked[(i + 1) % 5])
        nearer = [j for j in range(5) if j not in (i, (i + 1) % 5) and float(asked[i] @ ranked[j]) >= own]
        assert rank == 1 + len(nearer)


def test_stages_know_the_answers_of_the_other_data_sets(folder):
    pairs = [replace(pair, dataset="a") for pair in text_pairs(6)]
    pairs += [replace(pairs[i], positive=pairs[(i + 1) % 6].positive, dataset="b") for i in range(6)]
    loss = Watch(1)
    train(fresh("clip-test"), pairs, quick(datasets=("a",), steps=1), folder / "run", loss=loss, **CALM)
    feed = make_feed(
        fresh("clip-test"),
        Selection(pairs, range(6)),
        quick(),
        folder,
        progress=False,
        answers=answers_of(pairs).at(np.arange(6)),
    )
    batch = feed.batch(0)
    right = batch.answers.right(batch.numbers[:6], batch.numbers[6:])
    assert right.answers(slice(None)).sum(1).tolist() == [2] * 6


# ------------------------------------------------------------------------------------------------ what is said


def by_force(pairs, feed, steps) -> float:
    """False negatives of a row, by loops over the batches that the feed gives."""
    met = rows = 0
    for step in range(steps):
        batch = feed.batch(step)
        items = [[list(pairs[row].items())[slot] for slot in feed.places(row, step)] for row in batch.rows]
        targets = [line[1] for line in items] + [item for line in items for item in line[2:]]
        met += sum(told(pairs, line[0], target) for line in items for target in targets) - len(items)
        rows += len(items)
    return met / rows


@pytest.mark.parametrize(
    "loss",
    ["infonce", *(pytest.param(name, marks=pytest.mark.slow) for name in ("infonce(multi_positive=True)", "sigmoid"))],
)
def test_the_run_says_what_repeats_with_true_numbers(loss, folder, capsys):
    rows = [[f"img/{i}.png", f"caption {k} of image {i}"] for i in range(6) for k in range(5)]
    pairs = open_pairs(write(folder / "five.csv", ["image", "text"], rows))
    recipe = quick(batch_size=15, loss=loss)
    train(fresh(), pairs, recipe, folder / "run", trackers=(), report=False)
    said = re.search(r"quick: (\d.*)", capsys.readouterr().out)[1]
    found = by_force(pairs, make_feed(fresh(), pairs, recipe, folder, progress=False), 4)
    assert found > 1
    more = f"{found:.2g} further positives a row" if "multi" in loss else f"{found:.2g} false negatives a row: masked"
    assert said == f"5 captions an image, {more}"


def test_words_of_other_tables(folder):
    def said(pairs, **changes):
        return rehearse(fresh(), pairs, quick(**changes))["quick: what repeats"]

    pairs, _ = listed(folder, (2, 2, 2, 2, 2, 2))
    assert said(pairs) == "2 captions an image, no false negatives"
    assert said(open_pairs(shaped(folder, ("text", "image"), False)), negatives=0).startswith("2 images a caption, ")
    labels = [replace(pair, positive=text(f"label {i % 2}")) for i, pair in enumerate(pairs)]
    assert (
        said([replace(p, extra_positives=()) for p in labels])
        == "1 caption an image, 3 images a caption, 2 false negatives a row: masked"
    )
    graded = [replace(pair, score=0.5) for pair in text_pairs(6)]
    assert said(graded, loss="cosent") == "1 answer a query"


def test_a_loss_that_reads_the_old_names_is_refused(tmp_path):
    class Old(Loss):
        may_read = frozenset({"query_groups", "target_groups"})

    with pytest.raises(PairsError, match=r"Old reads query_groups, target_groups, which no batch has; .* right"):
        train(fresh("text-test"), text_pairs(8), quick(), tmp_path, loss=Old(), **CALM)


def test_a_loss_may_need_to_know_what_is_right(tmp_path):
    class Needs(Loss):
        reads = frozenset({"right"})

        def forward(self, queries, targets, *, right, **extras):
            assert right.plain
            return F.mse_loss(queries, targets)

    train(fresh("text-test"), text_pairs(8), quick(steps=1), tmp_path, loss=Needs(), **CALM)


def test_pairs_of_bytes_files_and_images_in_memory_train_as_one(folder):
    """The same three images in three forms: of files and bytes the content is one, pixels are their own."""
    files = [folder / "img" / f"{i}.png" for i in range(3)]
    forms = [*files, *(file.read_bytes() for file in files), *(np.asarray(Image.open(file)) for file in files)]
    pairs = [Pair(Item(image=form), text(f"caption {i}")) for i, form in enumerate(forms)]
    answers = answers_of(pairs)
    numbers = [int(answers.of(i)[0]) for i in range(9)]
    assert numbers[:3] == numbers[3:6]
    assert len(set(numbers)) == 6
