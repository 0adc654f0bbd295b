"""zoo-mini inside LangChain, LlamaIndex and sentence-transformers: the real libraries find the right things with it."""

from __future__ import annotations

import asyncio
import importlib
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zoo
from tests.reference import TEXTS, Photo, write_photos
from zoo.errors import EmptyTextError, InputError, MissingFileError, UnsupportedModalityError

BOUND = 1e-5
FACTS = ("a kitten sleeps on the sofa", "the train leaves the station", "a plate of pasta with tomatoes", "red shoes")
ASKED = {"cat": 0, "railway": 1, "spaghetti": 2, "sneakers": 3}


@pytest.fixture(scope="module")
def mini() -> zoo.Embedder:
    return zoo.load_model("zoo-mini", device="cpu")


@pytest.fixture(scope="module")
def prompted() -> zoo.Embedder:
    """A text model whose queries and documents get different prompts."""
    torch.manual_seed(0)
    model = zoo.build_model("text-test").eval()
    model.spec = replace(model.spec, prompts={"query": "query: ", "document": "passage: "})
    assert (model.encode_query("kitty") - model.encode_document("kitty")).abs().max() > 100 * BOUND
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return write_photos(tmp_path_factory.mktemp("photos"))


def same(rows: object, expected: torch.Tensor) -> bool:
    vectors = torch.as_tensor(rows)
    assert vectors.shape == expected.shape
    return bool((vectors - expected).abs().max() < BOUND)


@pytest.mark.parametrize("name", ["langchain", "llama_index", "sentence_transformers"])
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {"langchain": "langchain_core"}.get(name, name)
    for known in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.delitem(sys.modules, f"zoo.integrations.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # as Python itself marks what cannot be imported
    with pytest.raises(zoo.ZooError, match=rf'pip install "embedding-zoo\[{name.replace("_", "-")}\]"') as caught:
        importlib.import_module(f"zoo.integrations.{name}")
    assert isinstance(caught.value, ImportError)
    assert package in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- LangChain


def test_langchains_store_finds_the_right_document(mini: zoo.Embedder) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    from zoo.integrations.langchain import ZooEmbeddings

    store = InMemoryVectorStore.from_texts(list(FACTS), ZooEmbeddings(mini))
    for question, row in ASKED.items():
        assert store.similarity_search(question, k=1)[0].page_content == FACTS[row]
    found = store.as_retriever(search_kwargs={"k": 2}).invoke("cat")
    assert len(found) == 2
    assert found[0].page_content == FACTS[0]


def test_langchain_gives_each_role_its_prompt(prompted: zoo.Embedder) -> None:
    from zoo.integrations.langchain import ZooEmbeddings

    embeddings = ZooEmbeddings(prompted)
    assert same(embeddings.embed_query("kitty"), prompted.encode_query("kitty"))
    assert same(embeddings.embed_documents(list(TEXTS)), prompted.encode_document(list(TEXTS)))
    assert same(asyncio.run(embeddings.aembed_query("kitty")), prompted.encode_query("kitty"))
    assert same(asyncio.run(embeddings.aembed_documents(list(TEXTS))), prompted.encode_document(list(TEXTS)))
    assert embeddings.embed_documents([]) == []


def test_langchain_takes_a_name_and_options() -> None:
    from zoo.integrations.langchain import ZooEmbeddings

    embeddings = ZooEmbeddings("zoo-mini", batch_size=2)
    assert embeddings.model.spec.name == "zoo-mini"
    vector = embeddings.embed_query("kitty")
    assert len(vector) == embeddings.model.spec.dim
    assert all(type(value) is float for value in vector)


def test_langchain_embeds_images(mini: zoo.Embedder, photos: list[Photo], tmp_path: Path) -> None:
    from zoo.integrations.langchain import ZooEmbeddings

    embeddings = ZooEmbeddings(mini)
    paths = [photo.path for photo in photos[:3]]
    expected = mini.encode(paths)
    assert same(embeddings.embed_images([str(paths[0]), paths[1], paths[2].read_bytes()]), expected)
    assert same(embeddings.embed_image(uris=[str(path) for path in paths]), expected)
    with pytest.raises(MissingFileError, match="nowhere"):
        embeddings.embed_images([str(tmp_path / "nowhere.jpg")])


def test_langchain_names_the_text_that_is_empty(mini: zoo.Embedder) -> None:
    from zoo.integrations.langchain import ZooEmbeddings

    with pytest.raises(EmptyTextError, match="item 1"):
        ZooEmbeddings(mini).embed_documents(["a cat", " "])


# --------------------------------------------------------------------------------------------------------- LlamaIndex


def test_llama_index_retrieves_without_a_language_model(mini: zoo.Embedder, tmp_path: Path) -> None:
    from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
    from llama_index.core.vector_stores import SimpleVectorStore

    from zoo.integrations.llama_index import ZooEmbedding

    embedding = ZooEmbedding(mini)
    context = StorageContext.from_defaults(vector_store=SimpleVectorStore())
    documents = [Document(text=fact) for fact in FACTS]
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)
    for question, row in ASKED.items():
        (found,) = index.as_retriever(similarity_top_k=1).retrieve(question)
        assert found.text == FACTS[row]
        expected = mini.similarity(mini.encode_query(question), mini.encode_document(FACTS[row])).item()
        assert found.score == pytest.approx(expected, abs=1e-5)
    index.storage_context.persist(str(tmp_path))
    again = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=embedding)
    assert again.as_retriever(similarity_top_k=1).retrieve("cat")[0].text == FACTS[0]


def test_llama_index_gives_each_role_its_prompt(prompted: zoo.Embedder) -> None:
    from zoo.integrations.llama_index import ZooEmbedding

    embedding = ZooEmbedding(prompted, embed_batch_size=3)
    queries, documents = prompted.encode_query("kitty"), prompted.encode_document(list(TEXTS))
    assert same(embedding.get_query_embedding("kitty"), queries)
    assert same(embedding.get_text_embedding_batch(list(TEXTS)), documents)
    assert same(embedding.get_text_embedding(TEXTS[0]), documents[0])
    assert same(asyncio.run(embedding.aget_query_embedding("kitty")), queries)
    assert same(asyncio.run(embedding.aget_text_embedding(TEXTS[0])), documents[0])
    assert same(asyncio.run(embedding.aget_text_embedding_batch(list(TEXTS))), documents)
    assert embedding.model_name == "text-test"


def test_llama_index_embeds_images(mini: zoo.Embedder, photos: list[Photo]) -> None:
    from zoo.integrations.llama_index import ZooEmbedding

    embedding = ZooEmbedding("zoo-mini")
    paths = [photo.path for photo in photos[:3]]
    expected = mini.encode(paths)
    assert same(embedding.get_image_embedding_batch([str(path) for path in paths]), expected)
    assert same(embedding.get_image_embedding(io.BytesIO(paths[0].read_bytes())), expected[0])
    assert same(asyncio.run(embedding.aget_image_embedding(str(paths[1]))), expected[1])


def test_a_text_model_refuses_images(prompted: zoo.Embedder, photos: list[Photo]) -> None:
    from zoo.integrations.langchain import ZooEmbeddings
    from zoo.integrations.llama_index import ZooEmbedding

    for embed in (ZooEmbeddings(prompted).embed_images, ZooEmbedding(prompted).get_image_embedding_batch):
        with pytest.raises(UnsupportedModalityError, match="reads text"):
            embed([str(photos[0].path)])


def test_llama_index_cuts_dimensions(mini: zoo.Embedder) -> None:
    from zoo.integrations.llama_index import ZooEmbedding

    with pytest.warns(UserWarning, match="lose accuracy"):
        vector = torch.tensor(ZooEmbedding(mini, dim=64).get_query_embedding("kitty"))
    assert vector.shape == (64,)
    assert vector.norm() == pytest.approx(1, abs=1e-5)


# ---------------------------------------------------------------------------------------------- sentence-transformers


def test_a_sentence_transformer_gives_our_vectors(mini: zoo.Embedder, photos: list[Photo]) -> None:
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    from zoo.integrations.sentence_transformers import as_sentence_transformer

    model = as_sentence_transformer(mini)
    assert isinstance(model, SentenceTransformer)
    assert model.get_embedding_dimension() == mini.spec.dim
    paths = [photo.path for photo in photos]
    assert same(model.encode(list(TEXTS)), mini.encode(list(TEXTS)))
    assert same(model.encode([{"image": str(path)} for path in paths], batch_size=3), mini.encode(paths))
    mixed = [TEXTS[0], Image.open(photos[0].upright), TEXTS[1]]
    assert same(model.encode(mixed), mini.encode([TEXTS[0], paths[0], TEXTS[1]]))
    scores = model.similarity(model.encode(["cat"]), model.encode(list(FACTS)))
    assert scores.argmax() == 0


def test_a_sentence_transformer_keeps_the_prompts(prompted: zoo.Embedder) -> None:
    from zoo.integrations.sentence_transformers import as_sentence_transformer

    model = as_sentence_transformer(prompted)
    assert same(model.encode_query(list(TEXTS)), prompted.encode_query(list(TEXTS)))
    assert same(model.encode_document(list(TEXTS)), prompted.encode_document(list(TEXTS)))
    assert same(model.encode(list(TEXTS)), prompted.encode(list(TEXTS)))
    assert same(model.encode(list(TEXTS), prompt_name="query"), prompted.encode(list(TEXTS), prompt_name="query"))


def test_a_sentence_transformer_has_the_default_prompt(prompted: zoo.Embedder) -> None:
    from zoo.integrations.sentence_transformers import as_sentence_transformer

    model = zoo.Embedder(
        replace(prompted.spec, prompts={"any": "task: ", "query": "q: "}, default_prompt_name="any"),
        list(prompted.towers),
    ).eval()
    adapted = as_sentence_transformer(model)
    assert same(adapted.encode(list(TEXTS)), model.encode(list(TEXTS)))
    assert same(adapted.encode_query(list(TEXTS)), model.encode_query(list(TEXTS)))
    assert same(adapted.encode_document(list(TEXTS)), model.encode_document(list(TEXTS)))


def test_sentence_transformers_own_evaluator_takes_it(mini: zoo.Embedder) -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    from zoo.integrations.sentence_transformers import as_sentence_transformer

    evaluator = InformationRetrievalEvaluator(
        queries=dict(enumerate(ASKED)),
        corpus=dict(enumerate(FACTS)),
        relevant_docs={number: {row} for number, row in enumerate(ASKED.values())},
        accuracy_at_k=[1],
        precision_recall_at_k=[1],
        mrr_at_k=[4],
        ndcg_at_k=[4],
        map_at_k=[4],
        name="facts",
    )
    assert evaluator(as_sentence_transformer(mini))["facts_cosine_accuracy@1"] == 1.0


def test_a_bad_text_is_an_error_there_too(mini: zoo.Embedder) -> None:
    """Where sentence-transformers itself embeds empty texts, and paths that do not exist, without a word."""
    from zoo.integrations.sentence_transformers import as_sentence_transformer

    model = as_sentence_transformer(mini)
    with pytest.raises(EmptyTextError):
        model.encode(["a cat", " "])
    with pytest.raises(InputError, match="nowhere"):
        model.encode([{"image": "/nowhere/a.jpg"}])
