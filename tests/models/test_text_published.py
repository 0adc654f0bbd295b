"""Text embedders by name, from the files of their repositories: equal to sentence-transformers, or to the computation written out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

import zoo
from tests.every import every, standing_for
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS, stir
from tests.reference.gte import CASES as GTE
from tests.reference.gte import weights
from tests.reference.text_published import CASES, by_sentence_transformers, reference, write
from tests.reference.text_published_more import CASES as MORE
from zoo import loading, registry
from zoo.errors import PromptError, TooManyTokensError, UnreadSettingError

CASES = {**CASES, **GTE, **MORE}
BOUND = 1e-5
TELLS = 1e-3
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("published")
    return cache(lambda name: write(CASES[name], root / name))


@pytest.fixture
def by_name(client_hub: LoopbackHub, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], zoo.Embedder]:
    """The registered model, all of whose facts count but for the sizes, from a hub that has its repository's files."""
    zoo.list_models()
    monkeypatch.setattr(loading, "_WARNED", set())
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))

    def load(name: str) -> zoo.Embedder:
        spec, case = zoo.get_spec(name), CASES[name]
        tiny = zoo.get_spec(case.test)
        sizes = {"dim": tiny.dim, "dims": tiny.dims, "params": tiny.params, "max_tokens": tiny.max_tokens}
        facts = {**spec.to_dict(), **sizes, "name": f"{name}-tiny", "revision": None}
        zoo.register_model(**facts)(case.build or registry.MODELS.builder(case.test))
        client_hub.add(folder(name), spec.hub_id)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = zoo.load_model(f"{name}-tiny", device="cpu")
        assert [str(one.message) for one in said if "commercial" in str(one.message)] == (
            [f"the weights of {name}-tiny are for non-commercial use ({spec.license})"] if spec.non_commercial else []
        )
        return model

    return load


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# Of repositories with the same files but for their weights one stands for all.
FEW = set(CASES) - {
    "linq-embed-mistral",
    "sfr-embedding-mistral",
    "sfr-embedding-2-r",
    "gte-qwen2-7b-instruct",
    "bge-base-zh-v1.5",
}
FEW -= {
    "multilingual-e5-large-instruct",
    "bge-large-en-v1.5",
    "gte-base-en-v1.5",
    "gte-large-en-v1.5",
    "bge-small-en",
    "bge-m3-unsupervised",
    "snowflake-arctic-embed-m-v1.5",
}
FEW -= {"gtr-t5-large", "sgpt-5.8b-weightedmean-msmarco-specb-bitfit", "codebert-base", "nomic-embed-code"}
FEW -= {"instructor-large", "jina-code-embeddings-0.5b"}  # which tests of their own read too


@pytest.mark.parametrize("name", standing_for(CASES, FEW))
def test_by_name_as_the_reference(name: str, by_name: Callable[[str], zoo.Embedder], folder: Folder) -> None:
    """Short and long texts, one and many, with and without the instruction of its queries."""
    model, embed, texts = by_name(name), reference(CASES[name], folder(name)), list(TEXTS)
    expected = embed(texts)
    assert torch.pdist(expected).min() > TELLS, "or agreement would prove nothing"
    assert furthest(model.encode(texts, prompt=""), expected) < BOUND
    assert furthest(model.encode(texts, prompt="", batch_size=2), expected) < BOUND
    assert furthest(model.encode(texts[3], prompt=""), expected[3]) < BOUND
    if (default := model.spec.default_prompt_name) is not None:
        assert furthest(model.encode(texts), embed(texts, model.spec.prompts[default])) < BOUND
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        prompt = model.spec.prompts.get(model.spec.roles.get(role, role), "")
        assert furthest(encode(texts[:3]), embed(texts[:3], prompt)) < BOUND


@every("name", CASES)
def test_prompts_are_those_of_the_repository(name: str) -> None:
    spec, case = zoo.get_spec(name), CASES[name]
    assert case.prompts is None or case.prompts.items() <= dict(spec.prompts).items()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_filled_changes_nothing(side: str, tmp_path: Path) -> None:
    made = write(CASES["qwen3-embedding-0.6b"], tmp_path / side, side=side)
    assert furthest(zoo.load_model(made).encode(list(TEXTS), prompt=""), by_sentence_transformers(made)(TEXTS)) < BOUND


GOLDEN = {
    "e5-mistral-7b-instruct": [
        1,
        259,
        100,
        259,
        102,
        100,
        119,
        259,
        198,
        172,
        2,
    ],  # <s>, then "▁a▁cat▁é" in bytes, then </s>
    "gte-qwen2-1.5b-instruct": [66, 222, 68, 66, 85, 222, 129, 104, 0],  # "a cat é" in bytes, then <|endoftext|>
    "qwen3-embedding-0.6b": [66, 222, 68, 66, 85, 222, 129, 104, 0],
    "embeddinggemma-300m": [2, 102, 261, 104, 102, 121, 261, 200, 174, 1],  # <bos>, "a▁cat▁é", <eos>
    "gte-multilingual-base": [0, 68, 224, 70, 68, 87, 224, 131, 106, 2],
    "multilingual-e5-base": [0, 68, 224, 70, 68, 87, 224, 131, 106, 2],
    "bge-en-icl": [1, 262, 103, 262, 105, 103, 122, 262, 201, 175, 2],  # <s>, "▁a▁cat▁é" in bytes, </s>
    "bge-multilingual-gemma2": [2, 103, 262, 105, 103, 122, 262, 201, 175, 1],  # <bos>, "a▁cat▁é" in bytes, <eos>
    "sentence-t5-base": [3, 68, 3, 70, 68, 87, 3, 139, 1],  # "▁a▁cat▁é" letter by letter, then </s>
}


@pytest.mark.parametrize("name", GOLDEN)
def test_token_ids(name: str, folder: Folder) -> None:
    """The ids that the authors' code gives the backbone, the end of the text included; also of a text that is cut."""
    case = CASES[name]
    like = case.test if zoo.get_spec(case.test).attention and "auto_map" in case.config else None
    encoder = zoo.load_model(folder(name), like=like).towers[0].encoder
    assert encoder.tokenize("a cat é") == GOLDEN[name]
    cut = encoder.tokenize("a cat é " * 200)
    assert (len(cut), cut[-1]) == (encoder.max_tokens, GOLDEN[name][-1])


@pytest.mark.parametrize("name", standing_for(CASES, FEW))
def test_the_first_token_sees_the_last_where_it_should(name: str) -> None:
    """Attention in both directions or causal, by what a change of the last word does to the state of the first."""
    model = CASES[name].model()
    encoder = stir(model).towers[0].encoder
    with torch.inference_mode():
        one, other = (encoder(encoder.prepare([zoo.Item(text=text)])).states[0, 0] for text in ("a cat b", "a cat c"))
    assert ((one - other).abs().max() > TELLS) == (name not in CAUSAL)


CAUSAL = {
    "bge-en-icl",
    "bge-multilingual-gemma2",
    "qwen3-embedding-0.6b",
    "e5-mistral-7b-instruct",
    "linq-embed-mistral",
    "sfr-embedding-mistral",
    "sfr-embedding-2-r",
    "nomic-embed-code",
    "jina-code-embeddings-0.5b",
    "sgpt-125m-weightedmean-msmarco-specb-bitfit",
    "sgpt-5.8b-weightedmean-msmarco-specb-bitfit",
}


def test_code_beside_the_weights_is_refused_where_no_registered_model_says_how_it_reads(folder: Folder) -> None:
    with pytest.raises(UnreadSettingError, match=r"modeling_qwen\.Qwen2Model"):
        zoo.load_model(folder("gte-qwen2-1.5b-instruct"))


def test_instructor_reads_its_instruction_and_leaves_it_out_of_the_mean(
    by_name: Callable[[str], zoo.Embedder], folder: Folder
) -> None:
    model, texts = by_name("instructor-large"), list(TEXTS[:4])
    embed = reference(CASES["instructor-large"], folder("instructor-large"))
    for task in ("Science title", "Wikipedia document for retrieval"):
        expected = embed(texts, f"Represent the {task}: ")
        assert furthest(model.encode_query(texts, task=task), expected) < BOUND
        assert furthest(model.encode_document(texts, task=task), expected) < BOUND
    assert (expected - embed([f"Represent the {task}: {text}" for text in texts])).abs().max() > TELLS
    assert not zoo.load_model(folder("instructor-large"), like="instructor-test").spec.pool_prompt
    assert zoo.load_model(folder("instructor-large")).spec.pool_prompt  # as nothing in its files says otherwise
    with pytest.raises(TooManyTokensError, match="the prompt alone has"):
        model.encode("a cat", prompt="a harbour " * 100)


def test_gte_multilingual_weighs_tokens_too(
    by_name: Callable[[str], zoo.Embedder], folder: Folder, tmp_path: Path
) -> None:
    """By its layer in the backbone's own file; one and many, saved and opened again."""
    model, texts = by_name("gte-multilingual-base"), list(TEXTS)
    with torch.inference_mode():
        expected = weights(folder("gte-multilingual-base"), texts)
    assert expected[expected > 0].std() > TELLS
    assert furthest(model.encode_sparse(texts).to_dense(), expected) < BOUND
    assert furthest(model.encode_sparse(texts, batch_size=3).to_dense(), expected) < BOUND
    assert furthest(model.encode_sparse(texts[3]).to_dense(), expected[3]) < BOUND
    model.save_pretrained(tmp_path / "saved")
    again = zoo.load_model(tmp_path / "saved", device="cpu")
    assert torch.equal(again.encode_sparse(texts[:3]).to_dense(), model.encode_sparse(texts[:3]).to_dense())


def test_a_task_by_name_has_a_prompt_for_each_role(by_name: Callable[[str], zoo.Embedder], folder: Folder) -> None:
    name = "jina-code-embeddings-0.5b"
    model, embed = by_name(name), reference(CASES[name], folder(name))
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        assert (
            furthest(encode(["a cat"], task="code2nl"), embed(["a cat"], model.spec.prompts[f"code2nl_{role}"])) < BOUND
        )
    with pytest.raises(PromptError, match="no prompt for a query of the task 'code2x'"):
        model.encode_query("a cat", task="code2x")


@pytest.mark.parametrize("name", ["qwen3-embedding-0.6b", "e5-mistral-7b-instruct", "gte-qwen2-1.5b-instruct"])
def test_a_task_in_words_becomes_the_instruction(
    name: str, by_name: Callable[[str], zoo.Embedder], folder: Folder
) -> None:
    model, embed = by_name(name), reference(CASES[name], folder(name))
    end = "Query:" if name.startswith("qwen3") else "Query: "
    vector = model.encode_query("a cat", task="Find pets")
    assert furthest(vector, embed([f"Instruct: Find pets\n{end}a cat"])[0]) < BOUND
    assert furthest(vector, model.encode_query("a cat")) > TELLS
