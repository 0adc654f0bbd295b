"""Text embedders with adapters for tasks, by name, from the files of their repositories: jina-embeddings-v3 and -v5-text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import zoo
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS
from tests.reference.jina import PROMPTS_V3, V5_TASKS, Embed, reread, write_v3, write_v5
from tests.reference.tiny import Tiny
from zoo.errors import MissingWeightsError, PromptError, UnreadSettingError, UnrecognisedCheckpointError

BOUND, TELLS = 1e-5, 1e-3
QUERY, PASSAGE = "retrieval.query", "retrieval.passage"
V3 = "jina-embeddings-v3"
V5 = {"small": "jina-embeddings-v5-text-small", "nano": "jina-embeddings-v5-text-nano"}
WRITE: dict[str, Callable[[Path], Embed]] = {
    V3: write_v3,
    V5["small"]: lambda folder: write_v5(folder, nano=False),
    V5["nano"]: lambda folder: write_v5(folder, nano=True),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Embed]]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: (root / name, write(root / name)) for name, write in WRITE.items()}


@pytest.fixture
def by_name(
    client_hub: LoopbackHub, written: dict[str, tuple[Path, Embed]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], zoo.Embedder]:
    """A registered model by all of its facts but the sizes, from a hub that has its repository's files."""
    tiny = Tiny(client_hub, monkeypatch)

    def load(name: str) -> zoo.Embedder:
        hub_id = zoo.get_spec(name).hub_id
        folder = next(folder for of, (folder, _) in written.items() if hub_id.endswith(of))
        if name == V3:
            return tiny.load(name, folder, lambda spec: zoo.build_model("jina-v3-test"))
        return tiny.load(name, folder, lambda spec: _parts(spec, last="v5" in hub_id))

    return load


def _parts(spec: zoo.ModelSpec, *, last: bool) -> zoo.Embedder:
    from zoo.models.parts import LastToken, Mean
    from zoo.models.text import bert, text_embedder

    small = replace(spec, max_tokens=130)
    return text_embedder(small, bert(layers=1, width=32, heads=4, vocab=260), LastToken() if last else Mean())


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def test_v3_chooses_an_adapter_by_the_prompt(by_name: Callable[[str], zoo.Embedder], written: dict[str, Any]) -> None:
    """Queries, documents, and texts without a prompt, which have none; alone, together, and cut; mixed in one batch."""
    model, embed, texts = by_name(V3), written[V3][1], list(TEXTS)
    calls = {None: model.encode, QUERY: model.encode_query, PASSAGE: model.encode_document}
    expected = {task: embed(texts, task) for task in calls}
    for task, call in calls.items():
        assert torch.pdist(expected[task]).min() > TELLS
        for size in (1, 4):
            assert furthest(call(texts, batch_size=size), expected[task]) < BOUND
        assert furthest(call(texts[3]), expected[task][3]) < BOUND
    assert furthest(expected[QUERY], expected[PASSAGE]) > 100 * TELLS
    assert furthest(model.encode_query(texts[:2], task="retrieval"), expected[QUERY][:2]) < BOUND
    assert furthest(model.encode(texts[:2], prompt=PROMPTS_V3[PASSAGE]), expected[PASSAGE][:2]) < BOUND
    encoder, item = model.towers[0].encoder, zoo.Item(text=texts[0])
    reads = [encoder.prepare_prompted(item, prompt) for prompt in ("", PROMPTS_V3[PASSAGE], PROMPTS_V3[QUERY])]
    with torch.inference_mode():
        mixed = model.towers[0](encoder.collate(reads))
    assert furthest(mixed, torch.stack([expected[task][0] for task in (None, PASSAGE, QUERY)])) < BOUND
    with pytest.raises(
        PromptError, match=r"of the task 'separation'.*; the model jina-embeddings-v3-separation is for that task"
    ):
        model.encode_query("a cat", task="separation")


@pytest.mark.parametrize(
    "task", ["separation", pytest.param("classification", marks=pytest.mark.slow), "text-matching"]
)
def test_v3_of_one_task(task: str, by_name: Callable[[str], zoo.Embedder], written: dict[str, Any]) -> None:
    model, expected = by_name(f"{V3}-{task}"), written[V3][1](TEXTS, task)
    assert furthest(model.encode(list(TEXTS)), expected) < BOUND
    assert furthest(model.encode_query(TEXTS[1]), expected[1]) < BOUND


def test_v3_saved_and_opened(written: dict[str, Any], tmp_path: Path) -> None:
    model = zoo.load_model(written[V3][0], device="cpu")
    before = model.encode_query(list(TEXTS[:3]), prompt_name=QUERY)
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(
        zoo.load_model(tmp_path / "saved", device="cpu").encode(list(TEXTS[:3]), prompt_name=QUERY), before
    )


def test_the_gradient_goes_to_the_adapter_that_was_chosen() -> None:
    model = zoo.build_model("jina-v3-test")
    encoder = model.towers[0].encoder
    reads = [encoder.prepare_prompted(zoo.Item(text="a cat"), model.spec.prompts[QUERY])]
    model.towers[0](encoder.collate(reads)).sum().backward()
    moved = encoder.backbone.layers[0].mlp.fc1.lora_B.grad.abs().amax((1, 2))
    assert moved[0] > 0
    assert moved[1] == 0


@pytest.mark.parametrize(
    ("size", "task"),
    [
        ("nano", "text-matching"),
        *(
            pytest.param(size, task, marks=pytest.mark.slow)
            for size in V5
            for task in V5_TASKS
            if (size, task) != ("nano", "text-matching")
        ),
    ],
)
def test_v5(size: str, task: str, by_name: Callable[[str], zoo.Embedder], written: dict[str, Any]) -> None:
    name = V5[size] + ("" if task == "retrieval" else f"-{task}")
    model, embed, texts = by_name(name), written[V5[size]][1], list(TEXTS)
    for call, prompt in ((model.encode_query, "Query: "), (model.encode_document, "Document: ")):
        expected = embed(texts, task, prompt)
        assert torch.pdist(expected).min() > TELLS
        assert furthest(call(texts), expected) < BOUND
        assert furthest(call(texts[2]), expected[2]) < BOUND
    assert furthest(model.encode(texts), expected) < BOUND, "the default prompt is that of documents"


def test_the_two_sizes_see_as_their_backbones_do(written: dict[str, Any]) -> None:
    """Qwen3 reads causally, EuroBERT in both directions."""
    for size, both in (("small", False), ("nano", True)):
        encoder = zoo.load_model(written[V5[size]][0], like=V5[size], device="cpu").towers[0].encoder
        with torch.inference_mode():
            a, b = (encoder(encoder.prepare([zoo.Item(text=text)])).states[0, 0] for text in ("a cat b", "a cat c"))
        assert ((a - b).abs().max() > TELLS) == both


@pytest.fixture
def changed(written: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    def change(name: str, **config: Any) -> Path:
        folder = shutil.copytree(written[name][0], tmp_path / name)
        known = {**json.loads((folder / "config.json").read_text()), **config}
        (folder / "config.json").write_text(json.dumps(known))
        return folder

    return change


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"load_trained_adapters": False}, UnreadSettingError, "never trained"),
        ({"emb_pooler": "cls"}, UnreadSettingError, "mean of the states"),
        ({"position_embedding_type": "absolute"}, UnreadSettingError, "position_embedding_type"),
        ({"lora_new": 1}, UnreadSettingError, "lora_new"),
        ({"task_instructions": {}}, UnrecognisedCheckpointError, "the same tasks"),
        ({"lora_rank": 0}, UnrecognisedCheckpointError, "no rank"),
        ({"lora_rank": 8}, MissingWeightsError, "should have the shape"),
        ({"num_hidden_layers": 1}, MissingWeightsError, r"layers\.1"),
    ],
)
def test_v3_that_is_not_followed(
    config: dict[str, Any], error: type[Exception], said: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(error, match=said):
        zoo.load_model(changed(V3, **config), device="cpu")


def test_v3_that_lacks_a_tensor(changed: Callable[..., Path]) -> None:
    folder = changed(V3)
    tensors = reread(folder / "model.safetensors")
    del tensors["roberta.encoder.layers.0.mlp.fc1.parametrizations.weight.0.lora_B"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"layers\.0\.mlp\.fc1 has no lora_B"):
        zoo.load_model(folder, device="cpu")


def test_an_adapter_is_of_texts_or_of_a_sequence() -> None:
    with pytest.raises(ValueError, match="adapter are of a sequence"):
        zoo.ModelSpec(name="a-model", modalities={"image"}, dim=8, license="mit", adapter="retrieval")


def test_v5_asks_for_a_task_and_its_adapter(changed: Callable[..., Path]) -> None:
    folder = changed(V5["small"])
    with pytest.raises(UnrecognisedCheckpointError, match="one of which must be chosen"):
        zoo.load_model(folder, device="cpu")
    (folder / "adapters" / "clustering" / "adapter_model.safetensors").unlink()
    assert zoo.load_model(folder, like=V5["small"], device="cpu").spec.dim == 32
    with pytest.raises(MissingWeightsError, match="adapter_model"):
        zoo.load_model(folder, like=f"{V5['small']}-clustering", device="cpu")
