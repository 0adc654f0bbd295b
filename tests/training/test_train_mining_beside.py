"""Mining beside others: rerankers, sentence-transformers' miner, and what mined negatives are good for."""

import random

import pytest
import torch
from torch.nn import functional as F
from zoo.training import mining
from zoo.training.losses.infonce import InfoNCE
from zoo.training.mining import mine

from tests.training.mining_support import random_cloud, ranking, teacher_of, text, words
from zoo.tables.pairs import Pair


@pytest.fixture(scope="module")
def cloud():
    return random_cloud()


# -- rerankers -------------------------------------------------------------------------------------------------------


class Lengths:
    """A reranker that likes documents with a high number."""

    def score(self, pairs):
        return torch.tensor([float(candidate.text[1:]) for _, candidate in pairs])


def test_a_reranker_judges_what_the_teacher_ranks(cloud, monkeypatch):
    monkeypatch.setattr(mining, "_RERANKED", 40)
    teacher, pairs = cloud
    mined = mine(pairs, teacher, negatives=3, ranks=(0, 20), reranker=Lengths(), margin=0.5, relative_margin=None)
    for i in (10, 49):
        window = ranking(teacher, f"q{i}", [f"p{j}" for j in range(50) if j != i])[:20]
        lower = sorted((int(word[1:]) for word in window if int(word[1:]) < i - 0.5), reverse=True)[:3]
        assert words(mined[i]) == [f"p{j}" for j in lower]
        assert mined[i].teacher_scores == (float(i), *map(float, lower))
    assert mined.report.removed["margin"] > 0


@pytest.fixture
def cross_encoder(tmp_path):
    """A tiny random BERT cross-encoder, built offline."""
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary += [f"##{letter}" for letter in vocabulary[5:]]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(vocabulary), num_labels=1, max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    return CrossEncoder(str(tmp_path), device="cpu")


def test_a_cross_encoder_of_sentence_transformers_is_a_reranker(cloud, cross_encoder):
    teacher, pairs = cloud
    options = {"negatives": 4, "ranks": (0, 8), "relative_margin": None}
    mined = mine(pairs[:12], teacher, reranker=cross_encoder, **options)
    plain = mine(pairs[:12], teacher, **options)
    asked = [("q3", word) for word in ("p3", *words(mined[3]))]
    assert mined[3].teacher_scores == pytest.approx(cross_encoder.predict(asked).tolist(), abs=1e-5)
    assert list(mined[3].teacher_scores[1:]) == sorted(mined[3].teacher_scores[1:], reverse=True)
    assert any(words(a) != words(b) for a, b in zip(mined, plain, strict=True))


# -- beside sentence-transformers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        {"relative_margin": None},
        {"relative_margin": None, "ranks": (4, 16)},
        {"relative_margin": 0.05},
        {"relative_margin": None, "margin": 0.02},
        {"relative_margin": None, "max_score": 0.2},
        {"relative_margin": None, "min_score": 0.1},
    ],
    ids=str,
)
def test_same_negatives_as_sentence_transformers(cloud, rules):
    """Where both have the same meaning: they skip ranks after filtering, we before, as the papers' windows do."""
    Dataset = pytest.importorskip("datasets").Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from sentence_transformers.util import mine_hard_negatives

    teacher, pairs = cloud
    encoder = teacher.towers[0].encoder
    static = StaticEmbedding(encoder.tokenize.tokenizer, embedding_weights=encoder.table.weight.detach().clone())
    theirs = SentenceTransformer(modules=[static], device="cpu")
    random.seed(0)
    # Two queries have two positives each: both miners must leave out either; and the window holds all, for theirs is wider by two.
    pairs = [*pairs, Pair(text("q0"), text("p5")), Pair(text("q1"), text("p6"))]
    first, last = rules.get("ranks", (0, 49))
    dataset = mine_hard_negatives(
        Dataset.from_dict({"query": [p.query.text for p in pairs], "answer": [p.positive.text for p in pairs]}),
        theirs,
        num_negatives=4,
        range_min=first,
        range_max=last,
        relative_margin=rules["relative_margin"],
        absolute_margin=rules.get("margin"),
        max_score=rules.get("max_score"),
        min_score=rules.get("min_score"),
        output_format="labeled-pair",
        verbose=False,
    )
    expected: dict[str, set[str]] = {}
    for query, answer, label in zip(dataset["query"], dataset["answer"], dataset["label"], strict=True):
        if not label:
            expected.setdefault(query, set()).add(answer)
    mined = mine(pairs, teacher, negatives=4, **{"ranks": (0, 49), **rules})
    ours = {p.query.text: set(words(p)) for p in mined if p.negatives}
    # With a margin they take the lower of several positives, we each pair's own.
    skipped = {"q0", "q1"} if "margin" in rules or rules["relative_margin"] else set()
    assert {q: n for q, n in ours.items() if q not in skipped} == {
        q: n for q, n in expected.items() if q not in skipped
    }
    assert len(ours) > 30


# -- what it is good for ---------------------------------------------------------------------------------------------


def sayings(seed: int):
    """Topics of four concepts, each said in many ways: `draw(ways)` → features `(rows, 48)` and the concept of each.

    The topic is loud, what tells its concepts apart is quiet, and every saying has a noise of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    topics, concepts = torch.randn(16, 16, generator=generator), torch.randn(64, 16, generator=generator)
    mix = torch.linalg.qr(torch.randn(48, 48, generator=generator)).Q

    def draw(ways: int) -> tuple[torch.Tensor, torch.Tensor]:
        concept = torch.arange(64).repeat_interleave(ways)
        own = 0.7 * torch.randn(len(concept), 16, generator=generator)
        return torch.cat([topics[concept // 4], 0.2 * concepts[concept], own], 1) @ mix, concept

    return draw, mix


def learned(pairs, features, rows_of, seed) -> torch.nn.Linear:
    """A linear encoder trained with InfoNCE on the negatives of each query."""
    torch.manual_seed(seed)
    encoder = torch.nn.Linear(48, 16, bias=False)
    optimiser, loss = torch.optim.Adam(encoder.parameters(), lr=1e-2), InfoNCE(0.1, learn=False, symmetric=False)
    rows = torch.tensor([[rows_of[item.text] for item in pair.items()] for pair in pairs])
    for _ in range(60):
        batch = rows[torch.randperm(len(rows))[:32]]
        vectors = F.normalize(encoder(features[batch]), dim=-1)
        targets = torch.cat([vectors[:, 1], vectors[:, 2:].flatten(0, 1)])
        optimiser.zero_grad()
        loss(vectors[:, 0], targets).backward()
        optimiser.step()
    return encoder


def test_filtered_negatives_beat_random_and_unfiltered_ones():
    gaps = {"random": [], "unfiltered": []}
    for seed in range(4):
        draw, mix = sayings(seed)
        features, _ = draw(8)
        # The teacher hears the quiet part well and little of the noise.
        ears = (features @ mix.T) * torch.cat([torch.ones(16), torch.full((16,), 3.5), torch.full((16,), 0.15)])
        names = [f"s{i}" for i in range(len(features))]
        rows_of = {name: i for i, name in enumerate(names)}
        teacher = teacher_of(dict(zip(names, ears, strict=True)))
        # Sayings 2k and 2k + 1 are known to be the same; the six others of their concept are false negatives.
        pairs = [Pair(text(names[i]), text(names[i + 1])) for i in range(0, len(names), 2)]
        rest = [text(name) for name in names[::2]]
        options = {"corpus": rest, "negatives": 4, "too_few": "repeat"}
        kinds = {
            "filtered": mine(pairs, teacher, relative_margin=0.1, **options),
            "unfiltered": mine(pairs, teacher, relative_margin=None, **options),
            "random": mine(pairs, teacher, relative_margin=None, sampling="random", ranks=(0, 512), **options),
        }
        (asked, wanted), (there, kept) = draw(2), draw(4)
        score = {}
        for kind, mined in kinds.items():
            encoder = learned(list(mined), features, rows_of, seed)
            left, right = (F.normalize(encoder(x), dim=-1) for x in (asked, there))
            best = (left @ right.T).topk(4, dim=1).indices
            score[kind] = float((kept[best] == wanted[:, None]).float().mean())  # precision@4 on new sayings
        for kind in gaps:
            gaps[kind].append(score["filtered"] - score[kind])
    for kind, gap in gaps.items():
        gap = torch.tensor(gap)
        assert gap.mean() > 2 * gap.std() / len(gap) ** 0.5, (kind, gap)
        assert gap.mean() > 0.03, (kind, gap)
