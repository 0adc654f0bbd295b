"""Models compared by dot product: vectors keep their norms, in every place that vectors go to, as in sentence-transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize

import zoo
from tests.reference import TEXTS, write
from tests.reference.sentence_models import write_dot
from zoo import loading
from zoo.errors import NonFiniteEmbeddingError, NormsLostError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.formats import read_json
from zoo.formats.layout import Opening, open_with
from zoo.heads import DenseStack

QUERIES, DOCUMENTS = list(TEXTS[:4]), list(TEXTS[4:])
BOUND = 1e-5
Pair = tuple[SentenceTransformer, zoo.Embedder]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that sentence-transformers saved with similarity_fn_name "dot" and no Normalize."""
    return write_dot(tmp_path_factory.mktemp("dot") / "model", Dense(32, 16)).folder


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return SentenceTransformer(str(folder), device="cpu"), zoo.load_model(folder)


def settings(folder: Path, **changes: object) -> Path:
    """The folder with other values in its config_sentence_transformers.json; None removes a key."""
    path = folder / "config_sentence_transformers.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
    return folder


def other(tmp_path: Path, folder: Path, **changes: object) -> Path:
    return settings(Path(shutil.copytree(folder, tmp_path / "other")), **changes)


# ------------------------------------------------------------------------------------------------- vectors and scores


def test_vectors_keep_their_norms(pair: Pair) -> None:
    theirs, ours = pair
    expected = torch.from_numpy(theirs.encode(list(TEXTS)))
    assert ours.spec.similarity == "dot"
    assert (expected.norm(dim=1) - 1).abs().min() > 0.1, "unit vectors would prove nothing"
    for batch_size in (None, 1, 3):
        assert (ours.encode(list(TEXTS), batch_size=batch_size) - expected).abs().max() < BOUND
    assert (ours.encode(TEXTS[3]) - expected[3]).abs().max() < BOUND
    streamed = torch.stack(list(ours.encode(text for text in TEXTS)))
    assert (streamed - expected).abs().max() < BOUND


def test_similarity_and_rank_are_dot_products(pair: Pair) -> None:
    theirs, ours = pair
    expected = theirs.similarity(theirs.encode(QUERIES), theirs.encode(DOCUMENTS))
    found = ours.similarity(ours.encode_query(QUERIES), ours.encode_document(DOCUMENTS))
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-5)
    cosines = torch.nn.functional.cosine_similarity(
        torch.from_numpy(theirs.encode(QUERIES))[:, None], torch.from_numpy(theirs.encode(DOCUMENTS))[None], dim=2
    )
    assert (cosines.argsort(1) != expected.argsort(1)).any(), "the cosine would rank equally"
    for query, row in zip(QUERIES, expected, strict=True):
        hits = ours.rank(query, DOCUMENTS, k=None)
        assert [hit.index for hit in hits] == row.argsort(descending=True).tolist()
        assert torch.allclose(torch.tensor([hit.score for hit in hits]), row.sort(descending=True).values, atol=1e-4)
        assert ours.rank(ours.encode_query(query), ours.encode_document(DOCUMENTS), k=None) == hits


def test_a_cut_is_not_made_unit_length_again(folder: Path) -> None:
    expected = SentenceTransformer(str(folder), device="cpu", truncate_dim=8).encode(QUERIES)
    with pytest.warns(UserWarning, match="8 columns lose accuracy"):
        found = zoo.load_model(folder).encode(QUERIES, dim=8)
    assert (found - torch.from_numpy(expected)).abs().max() < BOUND


def test_with_a_normalize_module_they_are_unit_vectors_and_a_cut_is_none(tmp_path: Path) -> None:
    """Unit length comes from the checkpoint's own module, before a cut: as there, so here."""
    folder = write_dot(tmp_path / "unit", Normalize()).folder
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), zoo.load_model(folder)
    assert ours.spec.similarity == "dot"
    again = zoo.load_model(ours.save_pretrained(tmp_path / "again"))
    for model in (ours, again):
        vectors = model.encode(list(TEXTS))
        assert (vectors - torch.from_numpy(theirs.encode(list(TEXTS)))).abs().max() < BOUND
        assert (vectors.norm(dim=1) - 1).abs().max() < BOUND
        with pytest.warns(UserWarning, match="columns lose accuracy"):
            cut = model.encode(list(TEXTS), dim=8)
        assert (cut - torch.from_numpy(theirs.encode(list(TEXTS), truncate_dim=8))).abs().max() < BOUND


@pytest.mark.parametrize("name", ["cosine", None, ...])
def test_cosine_and_none_and_absent_are_cosine(name: object, folder: Path, tmp_path: Path, pair: Pair) -> None:
    """Without a Normalize the zoo's are unit vectors all the same: the cosine is blind to their length."""
    model = zoo.load_model(other(tmp_path, folder, similarity_fn_name=name))
    theirs = SentenceTransformer(str(tmp_path / "other"), device="cpu")
    assert (model.spec.similarity, theirs.similarity_fn_name) == ("cosine", "cosine")
    vectors = model.encode(list(TEXTS))
    assert torch.allclose(vectors, torch.nn.functional.normalize(pair[1].encode(list(TEXTS))), atol=1e-6)
    expected = theirs.similarity(theirs.encode(list(TEXTS)), theirs.encode(list(TEXTS)))
    assert (model.similarity(vectors, vectors) - expected).abs().max() < BOUND


@pytest.mark.parametrize("name", ["euclidean", "manhattan", "maxsim", "meanmaxsim", "dot_score", 3])
def test_other_similarities_are_refused_by_name(name: object, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadSettingError, match=f'similarity_fn_name" is "?{name}'):
        zoo.load_model(other(tmp_path, folder, similarity_fn_name=name))


# ------------------------------------------------------------------------------------------------- the spec


def test_saved_and_loaded_again(pair: Pair, tmp_path: Path) -> None:
    model = pair[1]
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert again.spec == model.spec
    assert again.fingerprint() == model.fingerprint()
    assert torch.equal(again.encode(list(TEXTS)), model.encode(list(TEXTS)))


def test_the_spec_decides_whoever_sets_it() -> None:
    model = zoo.build_model("text-test")
    unit = model.encode("a red bicycle")
    model.spec = replace(model.spec, similarity="dot")
    raw = model.encode("a red bicycle")
    assert abs(float(raw.norm()) - 1) > 0.1
    assert torch.allclose(torch.nn.functional.normalize(raw, dim=0), unit, atol=1e-6)
    built = zoo.Embedder(model.spec, list(zoo.build_model("text-test").towers))
    assert abs(float(built.encode("a red bicycle").norm()) - 1) > 0.1


@pytest.mark.parametrize("said", ["dot", None, "cosine"])
@pytest.mark.parametrize("unit", [False, True])
def test_a_registered_similarity_holds_where_the_files_say_nothing(
    said: str | None, unit: bool, tmp_path: Path
) -> None:
    """Repositories of 2021 are dot models whose files do not say so; what files do say is never overruled."""
    folder = settings(write_dot(tmp_path / "old", *[Normalize()] * unit).folder, similarity_fn_name=said)
    layout = loading.recognise({path.name for path in folder.iterdir()}, lambda file: read_json(folder / file), "old")
    known = replace(zoo.get_spec("text-test"), similarity="dot")
    model = open_with(layout, folder, loading._told(layout, Opening("old", like=known), "old"))
    if said == "cosine":
        with pytest.raises(UnrecognisedCheckpointError, match="says 'cosine'"):
            loading._check_similarity(model, known, folder, "the registered old")
        return
    loading._check_similarity(model, known, folder, "the registered old")
    expected = torch.from_numpy(SentenceTransformer(str(folder), device="cpu").encode(QUERIES))
    assert (model.encode(QUERIES) - expected).abs().max() < BOUND


@pytest.mark.parametrize("unit", [False, True])
def test_a_static_table_and_both_towers_of_a_clip_keep_their_norms(unit: bool, tmp_path: Path) -> None:
    for name in ("sentence-static", "sentence-clip-saved"):
        folder = write(name, tmp_path / name).folder
        theirs = SentenceTransformer(str(folder), device="cpu", similarity_fn_name="dot")
        if unit:
            theirs.append(Normalize())
        theirs.save_pretrained(str(tmp_path / f"{name}-dot"), create_model_card=False)
        model = zoo.load_model(tmp_path / f"{name}-dot")
        assert model.spec.similarity == "dot"
        expected = theirs.encode(list(TEXTS), convert_to_tensor=True)
        assert (model.encode(list(TEXTS)) - expected).abs().max() < BOUND
        assert bool(((expected.norm(dim=1) - 1).abs() < BOUND).all()) is unit


def test_the_fingerprint_tells_dot_from_cosine_and_leaves_all_others_as_they_were() -> None:
    model = zoo.build_model("text-test")
    before = model.fingerprint()
    assert sorted(before) == ["dim", "model", "preprocessing", "prompt", "revision", "weights"]
    model.spec = replace(model.spec, similarity="dot")
    dot = model.fingerprint()
    assert dot == {**before, "similarity": "dot", "heads": dot["heads"]}


def test_a_normalize_removed_from_a_dot_folder_is_another_fingerprint(tmp_path: Path) -> None:
    """It has no weights; of a model that compares by cosine it changes nothing, and so neither does the fingerprint."""
    for similarity in ("dot", "cosine"):
        folder = write("sentence-mean", tmp_path / similarity).folder
        settings = json.loads((folder / "config_sentence_transformers.json").read_text())
        settings["similarity_fn_name"] = similarity
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
        modules = json.loads((folder / "modules.json").read_text())
        rows = [row for row in modules if not row["type"].endswith("Normalize")]
        (folder / "modules.json").write_text(json.dumps(rows))
        without = zoo.load_model(folder).fingerprint()
        normalize = {"idx": len(rows), "name": "n", "path": "n", "type": "sentence_transformers.models.Normalize"}
        (folder / "modules.json").write_text(json.dumps([*rows, normalize]))
        assert (zoo.load_model(folder).fingerprint() == without) is (similarity == "cosine")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_nan_infinity_and_zero_are_still_caught(value: float, monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    model = pair[1]
    real = DenseStack.forward
    monkeypatch.setattr(DenseStack, "forward", lambda self, vectors: real(self, vectors) * value)
    with pytest.raises(NonFiniteEmbeddingError, match="no usable vector"):
        model.encode(TEXTS[0])


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_precisions_that_drop_norms_are_refused_before_anything_is_embedded(precision: str, pair: Pair) -> None:
    def never() -> list[str]:
        raise AssertionError("an input was read")
        yield

    with pytest.raises(NormsLostError, match=f"{precision} drops the norms"):
        pair[1].encode(never(), precision=precision)
    packed = zoo.build_model("text-test").encode(QUERIES, precision=precision)
    with pytest.raises(NormsLostError, match="needs the norms"):
        pair[1].similarity(packed, packed)
