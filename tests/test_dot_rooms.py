"""A model that compares by dot product in every room that takes vectors: each keeps the norms, or refuses by name."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import zoo
from tests.dot_support import BOUND, DOCUMENTS, QUERIES, as_cosine, dot_model, ranking
from zoo.bulk import embed_dataset
from zoo.cli import main
from zoo.errors import FingerprintMismatchError, IndexStateError, NormsLostError, ZooError
from zoo.index import ExactIndex, LanceIndex, open_index
from zoo.inputs.item import Item
from zoo.publishing import certificate, exports
from zoo.publishing.certificate import checking
from zoo.similarity import cosine, dot

IMAGES = [np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8) for seed in range(6)]
BACKENDS = {"exact": ExactIndex, "lancedb": LanceIndex}


@pytest.fixture(scope="module")
def model() -> zoo.Embedder:
    model = dot_model()
    asked, found = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    assert ranking(dot(asked, found)) != ranking(cosine(asked, found)), "norms that change nothing would prove nothing"
    return model


@pytest.fixture(scope="module")
def dual() -> zoo.Embedder:
    return dot_model("clip-test")


@pytest.fixture(scope="module")
def saved(model: zoo.Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save_pretrained(tmp_path_factory.mktemp("saved") / "dot-model")


@pytest.fixture(scope="module")
def embedded(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents embedded by `zoo embed`'s own function."""
    root = tmp_path_factory.mktemp("bulk")
    (root / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    embed_dataset(saved, root / "texts.jsonl", root / "out", progress=False)
    return root / "out"


# ------------------------------------------------------------------------------------------------- stores


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_folder_of_vectors_is_searched_by_dot_product(
    backend: str, embedded: Path, model: zoo.Embedder, saved: Path
) -> None:
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    assert json.loads((embedded / "manifest.json").read_text())["fingerprint"]["similarity"] == "dot"
    index = open_index(embedded, model=zoo.load_model(saved), backend=backend)
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS))
    for query, row in zip(QUERIES, expected, strict=True):
        found = index.search(model.encode_query(query), len(DOCUMENTS))
        texts = [match.attributes.get("text") or match.reference for match in found]
        order = row.argsort(descending=True).tolist()
        assert [DOCUMENTS.index(text) if text in DOCUMENTS else int(text.rpartition("#")[2]) for text in texts] == order
        assert torch.allclose(torch.tensor([match.score for match in found]), row[order], atol=1e-4)
    with pytest.raises(FingerprintMismatchError, match="similarity: 'dot' there, nothing here"):
        open_index(embedded, model=as_cosine(model), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_store_keeps_norms_through_updates(backend: str, tmp_path: Path) -> None:
    if backend == "lancedb":
        pytest.importorskip("lancedb")
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(50, 16)).astype(np.float32) * generator.uniform(0.1, 30, (50, 1)).astype(np.float32)
    made = {"model": "m", "dim": 16, "similarity": "dot"}
    index = BACKENDS[backend].create(tmp_path / "index", fingerprint=made, dim=16)
    index.upsert([f"r{i}" for i in range(50)], matrix)
    matrix[3] *= 5
    index.upsert(["r3"], matrix[3:4])
    index = BACKENDS[backend].open(tmp_path / "index", fingerprint=made)
    query = generator.normal(size=16).astype(np.float32) * 7
    scores = matrix @ query
    found = index.search(query, 10)
    assert [match.id for match in found] == [f"r{i}" for i in np.argsort(-scores)[:10]]
    np.testing.assert_allclose([match.score for match in found], np.sort(scores)[::-1][:10], rtol=1e-5, atol=1e-4)
    for other in ({**made, "similarity": "cosine"}, {"model": "m", "dim": 16}):
        with pytest.raises(FingerprintMismatchError, match="similarity: 'dot' there"):
            BACKENDS[backend].open(tmp_path / "index", fingerprint=other)


def test_an_approximate_index_finds_almost_all_by_dot_product(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(2000, 16)).astype(np.float32) * generator.uniform(1, 9, (2000, 1)).astype(
        np.float32
    )
    index = LanceIndex.create(tmp_path / "index", fingerprint={"model": "m", "similarity": "dot"}, dim=16)
    index.upsert([str(i) for i in range(2000)], matrix)
    index.tune(1000)
    assert index.approximate
    queries = generator.normal(size=(20, 16)).astype(np.float32)
    found = 0
    for query in queries:
        best = set(np.argsort(-(matrix @ query))[:10].tolist())
        found += len(best & {int(match.id) for match in index.search(query, 10)})
        assert {int(match.id) for match in index.search(query, 10, exact=True)} == best
    assert found > 0.9 * 200


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_stores_refuse_precisions_that_drop_norms(precision: str, model: zoo.Embedder, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\na\nb\n")
    with pytest.raises(NormsLostError, match=f"{precision} drops the norms"):
        embed_dataset(model, tmp_path / "texts.csv", tmp_path / "out", precision=precision, progress=False)
    assert not (tmp_path / "out").exists()
    made = model.fingerprint()
    with pytest.raises(NormsLostError, match=f"{precision} drops the norms"):
        ExactIndex.create(tmp_path / "index", fingerprint=made, dim=32, precision=precision)
    assert not (tmp_path / "index").exists()
    index = ExactIndex.create(tmp_path / "index", fingerprint=made, dim=32)
    facts = json.loads((tmp_path / "index" / "index.json").read_text())
    for changes in ({"precision": precision}, {"fingerprint": {**made, "similarity": "euclidean"}}):
        (tmp_path / "index" / "index.json").write_text(json.dumps({**facts, **changes}))
        with pytest.raises(IndexStateError, match=r"drops the norms|euclidean"):
            type(index).open(tmp_path / "index")


def test_the_command_line_shows_dot_products(embedded: Path, saved: Path, model: zoo.Embedder, capsys) -> None:
    assert main(["search", str(embedded), QUERIES[0], "--model", str(saved), "--json", "--backend", "exact"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = model.similarity(model.encode_query(QUERIES[0]), model.encode_document(DOCUMENTS))[0].sort(
        descending=True
    )
    assert [match["score"] for match in found] == pytest.approx(expected.values.tolist(), abs=1e-4)
    assert main(["encode", "a cat", "a dog", "--model", str(saved)]) == 0
    assert "dot product with the first" in capsys.readouterr().out
    assert main(["encode", "a cat", "--model", str(saved), "--precision", "int8"]) != 0
    assert "int8 drops the norms" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- serving, adapters


def test_the_server_gives_vectors_with_norms(model: zoo.Embedder) -> None:
    pytest.importorskip("fastapi")
    from tests.serving.serve_support import serving

    with serving(model) as served:
        found = torch.from_numpy(served.embed(DOCUMENTS).vectors())
        assert (found - model.encode(DOCUMENTS)).abs().max() < BOUND
        packed = served.embed(DOCUMENTS[0], encoding_format="base64").json()["data"][0]["embedding"]
        assert np.abs(np.frombuffer(base64.b64decode(packed), "<f4") - model.encode(DOCUMENTS[0]).numpy()).max() < BOUND
        cut = torch.from_numpy(served.embed(DOCUMENTS, dimensions=16).vectors())
        assert (cut - model.encode(DOCUMENTS, dim=16)).abs().max() < BOUND
        assert (cut - model.encode(DOCUMENTS)[:, :16]).abs().max() < BOUND
        assert json.loads(served.call("GET", "/v1/models").body)["data"][0]["similarity"] == "dot"
        assert served.call("GET", "/health").status == 200
        with torch.no_grad():  # the same directions, other norms: another model
            (first,) = served.app.state.service.models
            first.expected = first.expected * 1.5
        assert served.call("GET", "/health").status == 503


def test_sentence_transformers_gets_the_similarity(model: zoo.Embedder) -> None:
    from zoo.integrations.sentence_transformers import as_sentence_transformer

    theirs = as_sentence_transformer(model)
    assert theirs.similarity_fn_name == "dot"
    asked, found = theirs.encode_query(QUERIES), theirs.encode_document(DOCUMENTS)
    assert np.abs(asked - model.encode_query(QUERIES).numpy()).max() < BOUND
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS))
    assert torch.allclose(theirs.similarity(asked, found), expected, atol=1e-4)


def test_stores_that_choose_their_own_comparison_are_warned(model: zoo.Embedder) -> None:
    langchain = pytest.importorskip("zoo.integrations.langchain", exc_type=ImportError)
    llama = pytest.importorskip("zoo.integrations.llama_index", exc_type=ImportError)
    for adapter in (langchain.ZooEmbeddings, llama.ZooEmbedding):
        with pytest.warns(UserWarning, match="choose dot product"):
            adapted = adapter(model)
    assert torch.allclose(torch.tensor(adapted.get_query_embedding(QUERIES[0])), model.encode_query(QUERIES[0]))


# ------------------------------------------------------------------------------------------------- evaluation


def test_mteb_compares_by_dot_product(dual: zoo.Embedder) -> None:
    pytest.importorskip("mteb")
    from datasets import Dataset
    from torch.utils.data import DataLoader

    import zoo.evaluation.mteb
    from tests.evaluation.mteb_tasks import facts

    wrapped = zoo.evaluation.mteb.wrap(dual)
    assert wrapped.mteb_model_meta.similarity_fn_name.value == "dot"

    def embed(**columns: list) -> torch.Tensor:
        loader = DataLoader(Dataset.from_dict(columns), batch_size=2)
        return wrapped.encode(loader, task_metadata=facts("Local"), hf_split="test", hf_subset="default")

    texts = embed(text=QUERIES)
    assert (texts - dual.encode(QUERIES)).abs().max() < BOUND
    assert torch.allclose(wrapped.similarity(texts, texts), dual.similarity(texts, texts), atol=1e-4)


def test_mteb_takes_the_mean_of_parts_that_no_tower_reads_together() -> None:
    pytest.importorskip("mteb")
    import zoo.evaluation.mteb
    from tests.evaluation.mteb_tasks import facts

    dual = dot_model("clip-test")
    wrapped = zoo.evaluation.mteb.wrap(dual)
    rows = [{"text": ["a cat", "a dog"], "image": [IMAGES[0], IMAGES[1]]}]
    found = wrapped.encode(rows, task_metadata=facts("Local"), hf_split="test", hf_subset="default")
    expected = (dual.encode(["a cat", "a dog"]) + dual.encode([Item(image=one) for one in IMAGES[:2]])) / 2
    assert (found - expected).abs().max() < BOUND
    items = [Item(text=text, image=one) for text, one in zip(["a cat", "a dog"], IMAGES, strict=False)]
    assert (found - dual.encode(items)).abs().max() < BOUND, "the model's own rule gives the same"


def test_held_out_pairs_are_ranked_by_dot_product_and_spread_is_of_directions(model: zoo.Embedder) -> None:
    from zoo.evaluation.metrics import alignment, uniformity
    from zoo.evaluation.pairs import evaluate_pairs

    queries, targets = ([Item(text=text) for text in texts] for texts in (QUERIES, DOCUMENTS[: len(QUERIES)]))
    scores = evaluate_pairs(model, queries, targets)
    a, b = model.encode_query(QUERIES), model.encode_document(DOCUMENTS[: len(QUERIES)])
    expected = [row.index(place) + 1 for place, row in enumerate(ranking(a @ b.T))]
    assert scores.forward.ranks.tolist() == expected
    unit = F.normalize(a), F.normalize(b)
    assert scores.alignment == pytest.approx(alignment(*unit), abs=1e-6)
    assert scores.uniformity == pytest.approx((uniformity(unit[0]) + uniformity(unit[1])) / 2, abs=1e-6)


# ------------------------------------------------------------------------------------------------- fusion


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_a_weighted_sum_scores_as_the_weighted_sum_of_both_scores(share: float) -> None:
    from zoo.fusion import WeightedSum

    dual = dot_model("clip-test")
    dual.fusion = WeightedSum(share)
    image, text = dual.encode([Item(image=IMAGES[0])]), dual.encode(["in blue"])
    fused = dual.encode([Item(image=IMAGES[0], text="in blue")])
    gallery = dual.encode([Item(image=one) for one in IMAGES])
    expected = share * dual.similarity(image, gallery) + (1 - share) * dual.similarity(text, gallery)
    assert torch.allclose(dual.similarity(fused, gallery), expected, atol=1e-4)


# ------------------------------------------------------------------------------------------------- exports, certificate


@pytest.fixture(scope="module", params=["text-test", "clip-test"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[zoo.Embedder, Path]:
    """A model that compares by dot product, exported with its certificate."""
    model = dot_model(request.param)
    folder = tmp_path_factory.mktemp("published") / "model"
    exports.export(model, folder)
    certificate.make(zoo.load_model(folder)).save(folder)
    return model, folder


def test_every_library_gives_the_norms(published: tuple[zoo.Embedder, Path]) -> None:
    from sentence_transformers import SentenceTransformer

    model, folder = published
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert settings["similarity_fn_name"] == "dot"
    assert not any("Normalize" in row["type"] for row in json.loads((folder / "modules.json").read_text()))
    expected = model.encode(QUERIES)
    assert exports.loaders_of(folder) == ["zoo", "transformers", "sentence-transformers"]
    items = [Item(text=text) for text in QUERIES]
    for loader in exports.loaders_of(folder):
        found = exports.encode_with(loader, folder, items)
        assert (found - expected).abs().max() < BOUND, loader
    theirs = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    raw = theirs.encode(QUERIES, convert_to_tensor=True)
    assert torch.allclose(theirs.similarity(raw, raw), model.similarity(expected, expected), atol=1e-4)
    again = zoo.load_model(folder)
    assert again.spec.similarity == "dot"
    assert (again.encode(QUERIES) - expected).abs().max() < BOUND


def test_a_checkpoints_own_normalize_is_exported(tmp_path: Path) -> None:
    from zoo.heads import DenseStack

    model = dot_model()
    model.towers[0].head = DenseStack([{"kind": "normalize"}])
    exports.export(model, tmp_path / "unit")
    kinds = [row["type"].rpartition(".")[2] for row in json.loads((tmp_path / "unit" / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    for loader in ("zoo", "transformers", "sentence-transformers"):
        found = exports.encode_with(loader, tmp_path / "unit", [Item(text=text) for text in QUERIES])
        assert (found - model.encode(QUERIES)).abs().max() < BOUND, loader


def test_libraries_that_cannot_say_it_are_refused_by_name(dual: zoo.Embedder, tmp_path: Path) -> None:
    from zoo.errors import NotExportableError
    from zoo.publishing.exports import open_clip, timm

    with pytest.raises(NotExportableError, match="open_clip compares by cosine"):
        open_clip.write(dual, tmp_path / "open_clip")
    with pytest.raises(NotExportableError, match="cannot say that norms count"):
        timm.write(dual, tmp_path / "timm")


@pytest.mark.slow
def test_a_certificate_holds_norms(published: tuple[zoo.Embedder, Path], tmp_path: Path) -> None:
    _, folder = published
    report = certificate.verify(folder, dtypes=("float32", "bfloat16"), batch_sizes=(1, 32))
    assert report.passed, report.reason
    kept = certificate.Certificate.load(folder)
    assert ((kept.vectors.norm(dim=1) - 1).abs() > 0.05).all()
    # The same directions with other norms depart, in float32 and in half precision alike.
    opened = zoo.load_model(folder)
    goldens = certificate.inputs_of(opened)[:2]
    for dtype in ("float32", "bfloat16"):
        job = checking._Job("zoo", dtype, 1, lambda part: 1.2 * kept.vectors[:2], kept.tolerances, opened.spec)
        rows = checking._compare(job, goldens, kept.vectors[:2], [0, 1], None)
        assert rows
        assert [row.passed for row in rows] == [False] * len(rows), dtype


def test_facts_that_contradict_the_checkpoint_are_refused(published: tuple[zoo.Embedder, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published[1], tmp_path / "changed"))
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "similarity_fn_name": "cosine"}))
    if (folder / "zoo.json").is_file():
        with pytest.raises(ZooError, match=r"similarity 'dot'.* says 'cosine'"):
            zoo.load_model(folder)


# ------------------------------------------------------------------------------------------------- cards, demos


def test_card_and_show_say_it(model: zoo.Embedder, capsys) -> None:
    from zoo.publishing.cards.facts import fact_rows, summary

    assert summary(model.spec, weights=True).endswith(
        "vectors of 32 numbers, with their norms, compared by dot product."
    )
    assert fact_rows(model.spec)["vectors"] == "keep their norms, compared by dot product"
    assert "vectors" not in fact_rows(as_cosine(model).spec)


@pytest.fixture
def search(dual: zoo.Embedder, tmp_path: Path) -> tuple:
    pytest.importorskip("gradio")
    from PIL import Image
    from zoo.demos.chooser import Models
    from zoo.demos.gallery import embed_files
    from zoo.demos.handlers import Search

    from tests.demos.demo_support import folder_images

    folder = tmp_path / "images"
    folder.mkdir()
    for number, pixels in enumerate(IMAGES):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    gallery = embed_files(dual, folder_images(folder))
    return Search(Models(dual), gallery, tmp_path / "work"), folder


def test_the_demo_ranks_by_dot_product(search: tuple, dual: zoo.Embedder) -> None:
    page, folder = search
    scores = page.by_text("a cat", 6)[1]
    gallery = dual.encode_document([folder / f"{number}.png" for number in range(6)])
    expected = dual.similarity(dual.encode_query("a cat"), gallery)[0].sort(descending=True).values
    assert [row["dot"] for row in scores["rows"]] == pytest.approx(expected.tolist(), abs=1e-4)
    assert "the dot product" in scores["note"]
    # The reference alone is left out, though others have dot products above it.
    changed = page.by_both(str(folder / "0.png"), "in blue", top_k=6)[1]
    assert len(changed["rows"]) == 5
    shares = page.classify(str(folder / "0.png"), "cat, dog", 1.0)
    pair = dual.similarity(dual.encode(["cat", "dog"]), dual.encode(folder / "0.png"))[:, 0]
    assert sorted(row["dot"] for row in shares["rows"]) == pytest.approx(sorted(pair.tolist()), abs=1e-4)
    assert "dot product" in shares["note"]
    assert page.draw_map("PCA")[1].startswith("PCA")


def test_the_text_demo_ranks_by_dot_product(model: zoo.Embedder) -> None:
    pytest.importorskip("gradio")
    from zoo.demos.text import search_passages

    found = search_passages(model, QUERIES[0], "\n".join(DOCUMENTS[:4]), 3)
    assert "dot product" in found["note"]
    lines = [line.strip() for line in "\n".join(DOCUMENTS[:4]).splitlines() if line.strip()]
    hits = model.rank(QUERIES[0], lines, k=3)
    assert [row["dot"] for row in found["rows"]] == pytest.approx([hit.score for hit in hits], abs=1e-4)
