"""Training models that compare by dot product: losses follow the norms or refuse by name; mining, merging, caches too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo.training import train
from zoo.training.balancing import balance_weights
from zoo.training.cached_embeddings import check_teacher
from zoo.training.errors import DifferentModelsError, MiningError
from zoo.training.kinds.embedders import check_similarity
from zoo.training.losses import build_loss, list_losses
from zoo.training.losses.infonce import InfoNCE
from zoo.training.merging import uniform
from zoo.training.mining import mine
from zoo.training.self_positioning import Probe
from zoo.training.vector_cache import VectorCache, fill_cache

import zoo
from tests.dot_support import as_cosine, dot_model
from tests.training.loss_support import columns_of, exact, same, st
from tests.training.train_support import fresh, quick, text_pairs
from zoo.errors import FingerprintMismatchError, NormsLostError
from zoo.inputs.hashing import item_key

HOLD = {
    "infonce",
    "focal",
    "softened",
    "gist",
    "guided",
    "margin",
    "adaptive_margin",
    "distillation",
    "stable_distillation",
    "progressive",
    "ranking",
    "sigmoid",
    "cosent",
}
OPTIONS = {"matryoshka": "(dims=[16]):infonce", "matryoshka_2d": "(dims=[16]):infonce"}
OPTIONS["layers"] = ":infonce"
OPTIONS["starbucks"] = "(pairs=[[1, 16], [2, 32]]):infonce"


def test_every_loss_holds_for_norms_or_is_refused_by_name() -> None:
    spec = dot_model().spec
    for name in list_losses("embedders"):
        loss = build_loss(name + OPTIONS.get(name, ""))
        check_similarity(replace(spec, similarity="cosine"), loss)
        if name in HOLD:
            check_similarity(spec, loss)
            continue
        refused = loss.parts[0] if isinstance(loss, InfoNCE) else loss
        with pytest.raises(NormsLostError, match=f"the loss {type(refused).__name__} is of unit vectors"):
            check_similarity(spec, loss)
    with pytest.raises(NormsLostError, match="Progressive is of unit vectors"):
        check_similarity(spec, build_loss('progressive(mode="negatives")'))


def test_infonce_and_cosent_over_norms_equal_sentence_transformers() -> None:
    from sentence_transformers.util import dot_score, pairwise_dot_score

    torch.manual_seed(0)
    queries, targets = (torch.randn(n, 8, dtype=torch.float64).mul(3).requires_grad_() for n in (5, 10))
    model, features = columns_of(queries, targets)
    theirs = st("MultipleNegativesRankingLoss")(model, scale=1.0, similarity_fct=dot_score)(features, None)
    mine_ = exact(build_loss("infonce(temperature=1, symmetric=False)"))(queries, targets)
    same(mine_, theirs, queries, targets)
    grades = torch.rand(5, dtype=torch.float64)
    model, features = columns_of(queries, targets[:5])
    theirs = st("CoSENTLoss")(model, scale=1.0, similarity_fct=pairwise_dot_score)(features, grades)
    mine_ = exact(build_loss("cosent(temperature=1)"))(queries, targets[:5], scores=grades)
    same(mine_, theirs, queries, targets)


def test_a_trained_model_still_compares_by_dot_product(tmp_path: Path) -> None:
    recipe = quick(steps=60, batch_size=8, loss="infonce(temperature=1)")
    model = fresh("text-test")
    model.spec = replace(model.spec, similarity="dot")
    model = train(model, text_pairs(8), recipe, tmp_path / "run", progress=False, trackers=(), report=False)
    again = zoo.load_model(tmp_path / "run")
    for trained in (model, again):
        assert trained.spec.similarity == "dot"
        queries = trained.encode_query([pair.query for pair in text_pairs(8)])
        targets = trained.encode_document([pair.positive for pair in text_pairs(8)])
        assert (queries.norm(dim=1) - 1).abs().min() > 0.1
        assert trained.similarity(queries, targets).argmax(1).tolist() == list(range(8)), "eight pairs are learned"


def test_a_loss_of_unit_vectors_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = quick(loss="matryoshka(dims=[16]):infonce")
    with pytest.raises(NormsLostError, match="Matryoshka is of unit vectors"):
        train(dot_model(), text_pairs(), recipe, tmp_path / "run", progress=False, trackers=())
    assert not (tmp_path / "run").exists()
    with pytest.raises(NormsLostError, match="AnglE is of unit vectors"):
        Probe(text_pairs(), dot_model(), loss=build_loss("angle"))


@pytest.mark.parametrize("loss", ["distillation", "matryoshka(dims=[16]):distillation"])
def test_a_share_of_the_teachers_cosine_needs_one(loss: str, tmp_path: Path) -> None:
    """A reranker's probability and a dot product are not of one size; the rest of the loss takes either teacher."""
    mixed = build_loss(f'{loss}(space="group", cosine=0.5)')
    check_teacher(as_cosine(dot_model()).spec, mixed)
    check_teacher(dot_model().spec, build_loss(f'{loss}(space="group")'))
    check_teacher(dot_model().spec, build_loss(loss))
    with pytest.raises(NormsLostError, match=r"the teacher dot-model compares by dot product, .* Distillation"):
        check_teacher(dot_model().spec, mixed)
    teacher = dot_model().save_pretrained(tmp_path / "teacher")
    for student, name in ((dot_model(), "itself"), (fresh("text-test"), str(teacher))):
        pairs = [replace(p, negatives=(p.query,), teacher_scores=(0.9, 0.1)) for p in text_pairs()]
        recipe = quick(loss='distillation(space="group", cosine=0.5)', teacher=name)
        with pytest.raises(NormsLostError, match="take cosine=0"):
            train(student, pairs, recipe, tmp_path / "run", progress=False, trackers=(), report=False)


def test_negatives_are_mined_by_dot_product() -> None:
    model, pairs = dot_model(), text_pairs(12)
    rules = {"negatives": 3, "ranks": (0, 12), "relative_margin": None}
    mined = mine(pairs, model, progress=False, **rules)
    queries = model.encode_query([pair.query for pair in pairs])
    scores = model.similarity(queries, model.encode_document([pair.positive for pair in pairs]))
    own = scores.diagonal().clone()
    scores.fill_diagonal_(-torch.inf)
    best = scores.topk(3, dim=1)
    for row, pair in enumerate(mined):
        texts = [pairs[i].positive.text for i in best.indices[row].tolist()]
        assert [negative.text for negative in pair.negatives] == texts
        expected = [float(own[row]), *best.values[row].tolist()]
        assert pair.teacher_scores == pytest.approx(expected, abs=1e-4)
    with pytest.raises(MiningError, match="counts cosines"):
        mine(pairs, model, progress=False, threshold="f1", **rules)


def test_models_of_two_similarities_are_not_merged(tmp_path: Path) -> None:
    model = dot_model()
    merged = uniform([model, model])
    assert merged.spec.similarity == "dot"
    saved = model.save_pretrained(tmp_path / "dot")
    for first, second in ((model, as_cosine(model)), (saved, as_cosine(model).save_pretrained(tmp_path / "cosine"))):
        with pytest.raises(DifferentModelsError, match="its similarity is cosine and not dot"):
            uniform([first, second])


def test_a_cache_keeps_norms_and_is_of_one_similarity(tmp_path: Path) -> None:
    model = dot_model()
    items = [pair.query for pair in text_pairs(5)]
    cache = VectorCache.for_towers(tmp_path / "cache", model)
    fill_cache(model, items, cache, prompt="query: ", progress=False)
    found, missing = cache.get([item_key(item, "query: ") for item in items])
    assert not len(missing)
    assert torch.allclose(found, model.encode_query(items), atol=1e-5)
    with pytest.raises(FingerprintMismatchError, match="similarity: 'dot' there"):
        VectorCache.for_towers(tmp_path / "cache", as_cosine(model))


def test_weights_of_data_sets_are_of_unit_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 8))
    with pytest.raises(ValueError, match="train holds vectors that are not of unit length"):
        balance_weights([vectors], [vectors])
