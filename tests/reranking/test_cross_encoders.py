"""Cross-encoders by name, from the files of their repositories: equal to sentence-transformers' CrossEncoder, also once saved."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import zoo
from tests.every import every, standing_for
from tests.hub import LoopbackHub
from tests.reference.cross_encoders import CASES, FEW, PAIRS, by_sentence_transformers, reference, write
from zoo.errors import (
    MissingWeightsError,
    NonFiniteEmbeddingError,
    NotSavedError,
    TextTooLongError,
    UnknownModelError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedModalityError,
    ZooError,
)
from zoo.reranking import registry
from zoo.reranking.parts import cross_encoder

BOUND = 1e-5
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("cross")
    return cache(lambda name: write(CASES[name], root / name))


@pytest.fixture
def by_name(client_hub: LoopbackHub, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], zoo.Reranker]:
    """The registered reranker, from a hub that has its repository's files."""
    zoo.list_rerankers()
    monkeypatch.setattr(registry.RERANKERS, "_found", dict(registry.RERANKERS._found))

    def load(name: str) -> zoo.Reranker:
        spec = zoo.get_reranker_spec(name)
        facts = {**spec.to_dict(), "name": f"{name}-tiny", "revision": None, "params": 0}
        zoo.register_reranker(**facts)(registry.RERANKERS.builder(name))
        client_hub.add(folder(name), spec.hub_id)
        return zoo.load_reranker(f"{name}-tiny", device="cpu")

    return load


@pytest.fixture
def changed(folder: Folder, tmp_path: Path) -> Callable[..., Path]:
    """A folder of MiniLM's with other settings in its config.json, or in another file."""

    def change(name: str = "ms-marco-minilm-l6-v2", file: str = "config.json", **settings: object) -> Path:
        place = tmp_path / "changed"
        shutil.copytree(folder(name), place)
        facts = json.loads((place / file).read_text()) if (place / file).is_file() else {}
        (place / file).write_text(json.dumps({**facts, **settings}))
        return place

    return change


def furthest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("name", standing_for(CASES, FEW))
def test_by_name_as_the_reference(
    name: str, by_name: Callable[[str], zoo.Reranker], folder: Folder, tmp_path: Path
) -> None:
    """Short pairs and ones that are cut, one and many; saved, both libraries give the same scores."""
    model = by_name(name)
    scores, logits = reference(CASES[name], folder(name), PAIRS)
    assert torch.pdist(logits[:, None]).min() > 10 * BOUND, "or agreement would prove nothing"
    assert model.spec.activation == zoo.get_reranker_spec(name).activation
    assert model.spec.max_tokens == 128, "of the files"
    assert furthest(model.score(PAIRS), scores) < BOUND
    assert furthest(model.score(PAIRS, batch_size=2), scores) < BOUND
    alone = torch.stack([model.logits(model.collate([model.prepare(*pair)]))[0] for pair in PAIRS])
    assert furthest(alone.detach(), logits) < BOUND
    place = model.save_pretrained(tmp_path / "saved")
    again = zoo.load_reranker(place, device="cpu")
    assert again.spec == model.spec
    assert furthest(again.score(PAIRS), scores) < BOUND
    assert furthest(by_sentence_transformers(place, PAIRS)[0], scores) < BOUND


@every("name", [name for name in zoo.list_rerankers() if zoo.get_reranker_spec(name).judge is None])
def test_every_name_has_its_case(name: str) -> None:
    assert name in CASES
    assert name == zoo.get_reranker_spec(name).hub_id.rpartition("/")[2].lower()


def test_logits_have_a_gradient_down_to_the_tokens(folder: Folder) -> None:
    model = zoo.load_reranker(folder("ms-marco-minilm-l6-v2"), device="cpu").train()
    logits = model.logits(model.collate([model.prepare(*pair) for pair in PAIRS[:2]]))
    assert logits.shape == (2,)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert furthest(model.activate(logits), logits) == 0, "an identity"


def test_the_types_of_the_tokens_count(folder: Folder) -> None:
    """BERT is told which text a token is of; with the texts as one it would give another score."""
    model = zoo.load_reranker(folder("ms-marco-minilm-l6-v2"), device="cpu")
    inputs = model.collate([model.prepare(*PAIRS[0])])
    assert inputs["types"].unique().tolist() == [0, 1]
    flat = {**inputs, "types": torch.zeros_like(inputs["types"])}
    with torch.inference_mode():
        assert furthest(model.logits(inputs), model.logits(flat)) > 1e-3


def test_two_texts_that_are_far_too_long_are_cut_as_theirs(folder: Folder) -> None:
    """Where the limit leaves an odd number of tokens the longer text gets one more, also where both are shortened first."""
    name = "ms-marco-minilm-l6-v2"
    model, long = zoo.load_reranker(folder(name), device="cpu"), "a b c d " * 270
    pairs = [(long, long + "and more of it"), (long + "and more of it", long)]
    assert furthest(model.score(pairs), by_sentence_transformers(folder(name), pairs)[0]) < BOUND


def test_a_pair_that_is_too_long_is_said_once_or_refused(folder: Folder) -> None:
    model = zoo.load_reranker(folder("ms-marco-minilm-l6-v2"), device="cpu")
    room = model.spec.max_tokens - len(model.prepare("red", "a").ids) + 1
    fits, long = "a" * room, "a" * (room + 7)
    assert [model.lost_tokens("red", document) for document in (fits, long)] == [0, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score("red", [fits])
    with pytest.warns(UserWarning, match=r"pair 1 has .* 7 are lost"):
        cut = model.score("red", [fits, long, long])
    assert torch.allclose(cut[1], cut[0], atol=1e-6), "its end is what is lost"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.rerank("red", [long])
    with pytest.raises(TextTooLongError, match="7 are lost") as caught:
        model.rerank("red", [fits, long], truncation="error")
    assert caught.value.index == 1
    (one, two) = model.score_stream([("red", long), ("red", fits)], truncation="error")
    assert (one.score, two.error) == (None, None)


def test_reranks_and_says_what_it_does_not_read(folder: Folder) -> None:
    model = zoo.load_reranker(folder("bge-reranker-v2-m3"), device="cpu")
    documents = [document for _, document in PAIRS]
    scores = model.score("a red bicycle", documents)
    hits = model.rerank("a red bicycle", documents, k=3)
    assert [hit.index for hit in hits] == scores.argsort(descending=True)[:3].tolist()
    assert ((scores > 0) & (scores < 1)).all()
    with pytest.raises(UnsupportedModalityError, match="reads text, not image"):
        model.rerank("a", [zoo.Item(image=torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())])
    with pytest.raises(UnsupportedModalityError, match="follows no instruction"):
        model.rerank(zoo.Item(text="a", instruction="Find it."), ["b"])


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error(lost: float) -> None:
    model = zoo.build_reranker("ms-marco-test")
    with torch.no_grad():
        model.head.out.bias.fill_(lost)
    with pytest.raises(NonFiniteEmbeddingError, match="item 0: the model gave a score that is no number"):
        model.score("a", ["b"])


def test_saved_in_half_precision_and_over_an_embedder(folder: Folder, tmp_path: Path) -> None:
    model = zoo.load_reranker(folder("gte-reranker-modernbert-base"), device="cpu")
    zoo.build_model("text-test").save_pretrained(tmp_path / "place")
    model.save_pretrained(tmp_path / "place", dtype="float16")
    again = zoo.load_reranker(tmp_path / "place", device="cpu")
    assert furthest(again.score(PAIRS), model.score(PAIRS)) < 1e-2
    model.spec = replace(model.spec, name="mine", license="mit", languages=("en",))
    assert zoo.load_reranker(model.save_pretrained(tmp_path / "mine"), device="cpu").spec == model.spec
    with pytest.raises(NotSavedError, match="built without its tokenizer"):
        cross_encoder(model.spec, model.encoder.settings).save_pretrained(tmp_path / "no")


def test_built_and_saved_offline(tmp_path: Path) -> None:
    model = zoo.build_reranker("ms-marco-test")
    place = model.save_pretrained(tmp_path / "test")
    assert furthest(by_sentence_transformers(place, PAIRS)[0], model.score(PAIRS)) < BOUND
    assert furthest(zoo.load_reranker(place, device="cpu").score(PAIRS), model.score(PAIRS)) < BOUND


# ---------------------------------------------------------------------------------------- what is followed and refused


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}},
            UnrecognisedCheckpointError,
            "2 classes",
        ),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, UnreadSettingError, "torch.nn.Tanh"),
        ({"sentence_transformers": {"activation_fn": "theirs.Sigmoid"}}, UnreadSettingError, "theirs.Sigmoid"),
        ({"sentence_transformers": {"prompt": "a"}}, UnreadSettingError, "sentence_transformers.prompt"),
        ({"rerank_head": "sum"}, UnreadSettingError, "rerank_head"),
        ({"auto_map": {"AutoModelForSequenceClassification": "mine.Reranker"}}, UnreadSettingError, "mine.Reranker"),
        ({"model_type": "t5"}, UnrecognisedCheckpointError, "cross-encoder of the type 't5'"),
        ({"num_hidden_layers": 3}, MissingWeightsError, "lacks"),
        ({"file": "config_sentence_transformers.json", "prompts": {"query": "q: "}}, UnreadSettingError, "prompts"),
        ({"file": "sentence_bert_config.json", "transformer_task": "text-generation"}, UnreadSettingError, "task"),
        ({"file": "sentence_bert_config.json", "max_seq_length": "a"}, UnrecognisedCheckpointError, "max_seq_length"),
    ],
)
def test_what_is_not_followed_is_refused(
    change: dict[str, object], error: type[ZooError], said: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(error, match=said):
        zoo.load_reranker(changed(**change), device="cpu")


def test_modules_of_others_are_refused(folder: Folder, tmp_path: Path) -> None:
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    for more, error in (
        ("sentence_transformers.base.modules.dense.Dense", UnrecognisedCheckpointError),
        ("elsewhere.Transformer", UnsafeCheckpointError),
    ):
        place = tmp_path / more
        shutil.copytree(folder("gte-reranker-modernbert-base"), place)
        (place / "modules.json").write_text(json.dumps([*rows, {"idx": 1, "name": "1", "path": "1", "type": more}]))
        with pytest.raises(error, match=more.rpartition(".")[2]):
            zoo.load_reranker(place, device="cpu")


def test_the_length_and_the_activation_of_the_files_count(changed: Callable[..., Path]) -> None:
    place = changed("gte-reranker-modernbert-base", "sentence_bert_config.json", max_seq_length=40)
    file = place / "config_sentence_transformers.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "activation_fn": "torch.nn.modules.linear.Identity"}))
    model = zoo.load_reranker(place, device="cpu")
    assert (model.spec.max_tokens, model.spec.activation) == (40, "identity")
    assert furthest(model.score(PAIRS), by_sentence_transformers(place, PAIRS)[0]) < BOUND


def test_a_missing_shard_and_a_pickle(folder: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = tmp_path / "shards"
    shutil.copytree(folder("ms-marco-minilm-l6-v2"), place)
    state = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    first = dict(list(state.items())[:9])
    save_file(first, place / "model-00001-of-00002.safetensors", {"format": "pt"})
    index = {name: f"model-0000{1 if name in first else 2}-of-00002.safetensors" for name in state}
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    with pytest.raises(MissingWeightsError, match="00002-of-00002"):
        zoo.load_reranker(place, device="cpu")
    for shard in place.glob("model*"):
        shard.unlink()
    torch.save(state, place / "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle"):
        zoo.load_reranker(place, device="cpu")
    assert zoo.load_reranker(place, device="cpu", allow_pickle=True).score(PAIRS).isfinite().all()


def test_each_kind_is_refused_where_the_other_is_wanted(folder: Folder, tmp_path: Path) -> None:
    for name in ("ms-marco-minilm-l6-v2", "gte-reranker-modernbert-base"):
        with pytest.raises((UnreadSettingError, UnrecognisedCheckpointError), match="load_reranker"):
            zoo.load_model(folder(name))
    saved = zoo.build_reranker("ms-marco-test").save_pretrained(tmp_path / "saved")
    with pytest.raises(UnreadSettingError, match="load_reranker"):
        zoo.load_model(saved)
    with pytest.raises(UnknownModelError, match="not asked like"):
        zoo.load_reranker(saved, like="u-marvel-reranker")
    for opened in (zoo.load_model, zoo.build_model, zoo.get_spec):
        with pytest.raises(
            UnknownModelError, match=r"bge-reranker-v2-m3 is a reranker, .*: zoo\.load_reranker opens it"
        ):
            opened("bge-reranker-v2-m3")
    embedder = zoo.build_model("text-test").save_pretrained(tmp_path / "embedder")
    with pytest.raises(UnrecognisedCheckpointError, match="load_model opens it"):
        zoo.load_reranker(embedder)
