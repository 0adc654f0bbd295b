"""NV-Embed, KaLM, QZhou, Granite, LLM-Embedder and PEG by name, in their published layouts; tasks and examples before queries."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.base import TEXTS
from tests.reference.nv_embed import LIMIT, Published, write_nv_embed
from tests.reference.text_families import FAMILIES
from zoo.errors import (
    MissingWeightsError,
    PromptError,
    TooManyTokensError,
    UnknownModelError,
    UnreadSettingError,
    UnsafeCheckpointError,
)
from zoo.inputs.item import Item, Tokens
from zoo.pooling import Mean
from zoo.pooling.latent_attention import LatentAttention

BOUND = 1e-5
SOME = [*TEXTS[:4], TEXTS[-1]]
TASK = "Given a harbour, find a boat"
ANSWERED = [("a boat?", "the red one"), ("a {response}?", "gulls {query}")]
INSTRUCTED = f"Instruct: {TASK}\nQuery: "


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[..., Tensor]]]:
    root = tmp_path_factory.mktemp("families")
    return {name: (root / name, write(root / name)) for name, (write, _) in FAMILIES.items()}


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, published: dict[str, Any]) -> LoopbackHub:
    for name, (folder, _) in published.items():
        hub.add(folder, zoo.get_spec(name).hub_id)
    return hub


def furthest(a: Any, b: Tensor) -> float:
    return float((torch.as_tensor(a) - b).abs().max())


def calls_of(name: str) -> dict[str, list[dict[str, Any]]]:
    """Prompt → the calls that put it before a text."""
    spec = zoo.get_spec(name)
    calls: dict[str, list[dict[str, Any]]] = {"": [{"prompt": ""}]}
    if spec.instruction:
        calls[spec.instruction.replace("{task}", TASK)] = [{"task": TASK}]
        calls[""].append({"role": "document"})
        calls.setdefault(spec.prompts.get("query", ""), []).append({})
    for task in ("qa", "tool") if name == "llm-embedder" else ():
        for role in ("query", "document"):
            calls[spec.prompts[f"{task}-{role}"]] = [{"task": task, "role": role}]
    return calls


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_by_name(name: str, child: Child, published: dict[str, Any]) -> None:
    vectors = published[name][1]
    calls = calls_of(name)
    flat = [dict(call) for many in calls.values() for call in many]
    options = {"allow_pickle": True} if name == "peg" else {}
    for size in (1, len(SOME)):
        told = [{**call, "batch_size": size} for call in flat]
        answer = child.call(
            "tests.reference.text_families:embed" if size == 1 else "tests.models.test_text_families:again",
            name,
            texts=SOME,
            calls=told,
            **options,
        )
        assert "error" not in answer, answer
        found = iter(answer["result"]["vectors"])
        for prompt, many in calls.items():
            expected = vectors(SOME, prompt)
            assert torch.pdist(expected).min() > 100 * BOUND
            for _ in many:
                assert furthest(next(found), expected) < BOUND, prompt


def again(name: str, *, texts: list[str], calls: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """In the child: the model that is registered already."""
    model = zoo.load_model(f"{name}-tiny", **options)
    roles = {"document": model.encode_document, "query": model.encode_query}
    return {"vectors": [roles[call.pop("role", "query")](texts, **call).tolist() for call in calls]}


def test_a_pickle_asks_first(published: dict[str, Any]) -> None:
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle"):
        zoo.load_model(published["peg"][0], like="peg")


@pytest.mark.parametrize(
    "name", ["kalm-embedding-multilingual-mini-instruct-v2.5", "kalm-embedding-multilingual-mini-instruct-v1.5"]
)
def test_the_first_token_sees_the_last_where_attention_goes_both_ways(name: str, published: dict[str, Any]) -> None:
    model = zoo.load_model(published[name][0], like=name)
    encoder = model.towers[0].encoder
    firsts = []
    with torch.inference_mode():
        for text in ("gulls above the water", "gulls above the lighthouse"):
            firsts.append(encoder(encoder.prepare([Item(text=text)])).states[0, 0])
    moved = float((firsts[0] - firsts[1]).abs().max())
    assert (moved > 1e-3) == (zoo.get_spec(name).attention == "bidirectional")
    assert moved == 0 or moved > 1e-3


# ------------------------------------------------------------------------------------------------------------- NV-Embed


@pytest.fixture(scope="module")
def nv(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_nv_embed(tmp_path_factory.mktemp("nv") / "nv-embed")


@pytest.fixture
def changed(nv: Published, tmp_path: Path) -> Callable[..., Path]:
    def change(**settings: Any) -> Path:
        folder = shutil.copytree(nv.folder, tmp_path / "changed")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **settings}))
        return folder

    return change


def test_nv_embed_reads_as_its_authors_do(nv: Published, tmp_path: Path) -> None:
    model = zoo.load_model(nv.folder)
    assert not model.spec.pool_prompt
    assert model.spec.max_tokens == LIMIT
    encoder = model.towers[0].encoder
    golden = [1, 317, 345, 359, 357, 2]  # <s>, the pieces of the text, </s>
    assert list(encoder.prepare_item(Item(text="a red cat"))) == golden
    assert encoder.prepare_item(Item(text=TEXTS[-1]))[-1] != 2  # cut off, its end with it
    prompted = encoder.prepare_item(encoder.prompted(Item(text="a red cat"), INSTRUCTED))
    assert prompted.skipped == len(nv.tokenizer.tokenize(INSTRUCTED))  # one fewer than with <s>
    for layout in ("right", "left"):
        assert furthest(model.encode(list(TEXTS), prompt=INSTRUCTED), nv.vectors(TEXTS, INSTRUCTED, layout)) < BOUND
    expected = model.encode(SOME, prompt=INSTRUCTED)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert torch.equal(again.encode(SOME, prompt=INSTRUCTED), expected)
    assert not again.spec.pool_prompt
    with pytest.raises(TooManyTokensError, match="nothing of the text is left"):
        model.encode("a cat", prompt="a red motorbike stands beside the old harbour " * 20)


def test_an_instruction_counts_in_the_pool_where_the_checkpoint_says_so(
    nv: Published, changed: Callable[..., Path]
) -> None:
    model = zoo.load_model(changed(is_mask_instruction=False))
    assert model.spec.pool_prompt
    assert furthest(model.encode(SOME, prompt=INSTRUCTED), nv.vectors([INSTRUCTED + text for text in SOME])) < BOUND


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask_type": "c"}, "mask_type.*both directions"),
        ({"padding_side": "left"}, "padding_side"),
        ({"wings": 2}, "wings"),
        (
            {
                "latent_attention_config": {
                    "num_latents_value": 6,
                    "num_cross_heads": 2,
                    "cross_dim_head": 24,
                    "wings": 2,
                }
            },
            "wings",
        ),
    ],
)
def test_a_setting_of_nv_embed_that_is_not_followed(
    settings: dict[str, Any], said: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(UnreadSettingError, match=said):
        zoo.load_model(changed(**settings))


def test_nv_embed_with_weights_missing_or_left_over(changed: Callable[..., Path]) -> None:
    folder = changed()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "text_config": {**config["text_config"], "num_hidden_layers": 1}})
    )
    with pytest.raises(MissingWeightsError, match=r"embedding_model\.layers\.1"):
        zoo.load_model(folder)
    heads = {**config["latent_attention_config"], "num_latents_value": 5}
    (folder / "config.json").write_text(json.dumps({**config, "latent_attention_config": heads}))
    with pytest.raises(MissingWeightsError, match="latents should have the shape"):
        zoo.load_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="latent attention"):
        zoo.load_model(folder)


def test_its_licence_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import loading

    monkeypatch.setattr(loading, "_WARNED", set())
    with pytest.warns(UserWarning, match=r"nv-embed-v2 are for non-commercial use \(cc-by-nc-4.0\)"):
        loading.warn_of_license(zoo.get_spec("nv-embed-v2"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loading.warn_of_license(zoo.get_spec("nv-embed-v2"))


def test_latent_attention() -> None:
    torch.manual_seed(0)
    pooler = LatentAttention(16, latents=5, heads=2, head_dim=12)
    width, r, inner = 16, 5, 24
    shapes = r * width + 4 * inner * width + (8 * width * width + 8 * width) + (4 * width * width + width) + 6 * width
    assert sum(p.numel() for p in pooler.parameters()) == shapes
    states, mask = torch.randn(2, 4, 16), torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]]).bool()
    with torch.inference_mode():
        before = pooler(Tokens(states, mask))
        other = states.clone()
        other[1, 0] = 9.0  # left out of the pool
        assert torch.equal(pooler(Tokens(other, mask)), before)
        pooler.latents.copy_(pooler.latents[torch.tensor([4, 2, 0, 1, 3])])
        assert torch.allclose(pooler(Tokens(states, mask)), before, atol=1e-6)
        for layer in (pooler.out.weight, pooler.back.weight, pooler.back.bias):
            layer.zero_()
        assert torch.allclose(pooler(Tokens(states, mask)), Mean()(Tokens(states, mask)), atol=1e-6)


# --------------------------------------------------------------------------------------------------- tasks and examples


@pytest.fixture(scope="module")
def instructed() -> zoo.Embedder:
    return zoo.build_model("kalm-test")


def test_a_task_and_examples_before_a_query(instructed: zoo.Embedder) -> None:
    shown = "Query: a boat?\nAnswer: the red one\n\nQuery: a {response}?\nAnswer: gulls {query}\n\n"
    for examples, before in ((None, ""), ([], ""), (ANSWERED, shown), (iter(ANSWERED), shown)):
        expected = instructed.encode("a boat", prompt=f"{before}Instruct: {TASK} \n Query: ")
        assert torch.equal(instructed.encode_query("a boat", task=TASK, examples=examples), expected)
    assert torch.equal(instructed.encode_document("a boat"), instructed.encode("a boat", prompt=""))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": " "}, "task must be a text"),
        ({"task": 3}, "task must be a text"),
        ({"examples": ANSWERED}, "examples are of a task"),
        ({"task": TASK, "prompt": "Query: "}, "one of them"),
        ({"task": TASK, "examples": [("a boat?",)]}, "has no answer"),
        ({"task": TASK, "examples": [("a boat?", "")]}, "has no answer"),
        ({"task": TASK, "examples": ["a boat?"]}, "has no answer"),
        ({"task": TASK, "examples": "a boat?"}, "examples are pairs"),
        ({"task": TASK, "examples": 5}, "examples are pairs"),
    ],
)
def test_a_task_that_makes_no_sense(arguments: dict[str, Any], said: str, instructed: zoo.Embedder) -> None:
    with pytest.raises(PromptError, match=said):
        instructed.encode_query("a boat", **arguments)


def test_a_task_that_a_model_does_not_take(instructed: zoo.Embedder) -> None:
    with pytest.raises(PromptError, match="documents of kalm-test stand without a task"):
        instructed.encode_document("a boat", task=TASK)
    named = zoo.build_model("llm-embedder-test")
    with pytest.raises(PromptError, match=r"no prompt for a query of the task 'weather'.*'qa-query'"):
        named.encode_query("a boat", task="weather")
    with pytest.raises(PromptError, match="takes no examples"):
        named.encode_query("a boat", task="qa", examples=ANSWERED)
    instructed = zoo.build_model("nv-embed-test")
    with pytest.raises(PromptError, match="takes a task and no examples"):
        instructed.encode_query("a boat", task=TASK, examples=ANSWERED)


def test_tasks_by_name_of_other_models() -> None:
    """The names that prompts of published models have: a role after a hyphen or a full stop, or one prompt for both roles."""
    from zoo.prompts import of_task

    prompts = {"Retrieval-query": "q: ", "retrieval.passage": "p: ", "Clustering": "c: "}
    spec = replace(zoo.get_spec("text-test"), prompts=prompts)
    assert of_task(spec, "query", "Retrieval") == "q: "
    assert of_task(spec, "document", "retrieval") == "p: "
    assert of_task(spec, "query", "Clustering") == of_task(spec, "document", "Clustering") == "c: "


@pytest.mark.parametrize("name", ["annamodels/LGAI-Embedding-Preview", "lgai-embedding-preview", "qzhou-embedding-zh"])
def test_a_family_of_which_too_little_is_known(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"not in the zoo|looks like a path"):
        zoo.load_model(name)
