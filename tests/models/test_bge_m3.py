"""BGE-M3's three outputs of one pass: equal to FlagEmbedding's computation, by name, saved, exported, refused where there are none."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from tests.hub import LoopbackHub
from tests.reference.bge_m3 import CONFIG, MASK, TEXTS, WIDTH, Expected, expected, write
from zoo import registry
from zoo.errors import (
    ArgumentError,
    EmptyTextError,
    MissingWeightsError,
    NonFiniteEmbeddingError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
)
from zoo.similarity import lexical, mean_maxsim

BOUND = 1e-5
VOCABULARY = CONFIG["vocab_size"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("published") / "bge-m3")


@pytest.fixture(scope="module")
def model(folder: Path) -> zoo.Embedder:
    return zoo.load_model(folder, allow_pickle=True)


@pytest.fixture(scope="module")
def reference(folder: Path) -> list[Expected]:
    return expected(folder, TEXTS)


def check(found: zoo.embedder.Outputs, reference: list[Expected]) -> None:
    assert torch.allclose(found.dense, torch.stack([one.dense for one in reference]), atol=BOUND, rtol=0)
    assert torch.allclose(found.sparse.to_dense(), torch.stack([r.sparse for r in reference]), atol=BOUND, rtol=0)
    for tokens, one in zip(found.tokens, reference, strict=True):
        assert tokens.shape == one.tokens.shape
        assert torch.allclose(tokens, one.tokens, atol=BOUND, rtol=0)


def test_three_outputs_as_flag_embedding(model: zoo.Embedder, reference: list[Expected]) -> None:
    """Short and long texts, repeated and unknown tokens, in a batch of all or two."""
    weights = torch.stack([one.sparse for one in reference])
    assert weights[weights > 0].std() > 0.1, "or agreement would prove nothing"
    assert ((weights > 0).sum(1) < torch.tensor([len(set(text)) for text in TEXTS])).any()
    check(model.encode_outputs(TEXTS), reference)
    check(model.encode_outputs(TEXTS, batch_size=2), reference)


def test_one_pass_gives_them_all(model: zoo.Embedder) -> None:
    passes = []
    backbone = model.towers[0].encoder.backbone
    hook = backbone.register_forward_hook(lambda *call: passes.append(call))
    try:
        found = model.encode_outputs(list(TEXTS), ["dense", "sparse", "tokens"])
    finally:
        hook.remove()
    assert len(passes) == 1
    assert torch.equal(found.dense, model.encode(list(TEXTS)))
    assert torch.equal(found.sparse.to_dense(), model.encode_sparse(list(TEXTS)).to_dense())
    assert all(map(torch.equal, found.tokens, model.encode_tokens(list(TEXTS))))
    assert model.encode_outputs(TEXTS[0], ["dense"]) == (pytest.approx(found.dense[0]), None, None)


def test_one_text_has_no_axis_of_texts(model: zoo.Embedder, reference: list[Expected]) -> None:
    found = model.encode_outputs(TEXTS[1])
    assert found.dense.shape == (WIDTH,)
    assert found.sparse.shape == (VOCABULARY,)
    assert found.sparse.is_coalesced()
    assert torch.allclose(found.sparse.to_dense(), reference[1].sparse, atol=BOUND, rtol=0)
    assert torch.allclose(found.tokens, reference[1].tokens, atol=BOUND, rtol=0)
    assert not found.tokens.requires_grad
    assert not found.tokens.is_inference()


def test_none_and_a_generator(model: zoo.Embedder) -> None:
    none = model.encode_outputs([])
    assert (none.dense.shape, none.sparse.shape, none.tokens) == ((0, WIDTH), (0, VOCABULARY), [])
    assert model.encode_sparse(text for text in TEXTS[:2]).shape == (2, VOCABULARY)


def test_tokens_and_their_weights(model: zoo.Embedder, reference: list[Expected]) -> None:
    sparse = model.encode_sparse(TEXTS)
    named = model.token_weights(sparse)
    assert [len(one) for one in named] == [int((one.sparse > 0).sum()) for one in reference]
    assert named[1] == model.token_weights(model.encode_sparse(TEXTS[1]))
    assert list(named[1].values()) == sorted(named[1].values(), reverse=True)
    heaviest = int(reference[1].sparse.argmax())
    assert next(iter(named[1])) == model.towers[0].encoder.tokenize.token(heaviest)
    with pytest.raises(ArgumentError, match=f"a sparse tensor \\(n, {VOCABULARY}\\)"):
        model.token_weights(torch.zeros(VOCABULARY))


def test_special_tokens_have_no_weight_but_for_the_mask(model: zoo.Embedder, folder: Path) -> None:
    """As FlagEmbedding has it: cls, eos, pad and unk are dropped, and no other."""
    assert model.towers[0].outputs["sparse"].dropped == [0, 1, 2, 3]
    text = ["a <mask> cat <unk>"]
    assert torch.allclose(model.encode_sparse(text).to_dense()[0], expected(folder, text)[0].sparse, atol=BOUND, rtol=0)
    assert MASK not in model.towers[0].outputs["sparse"].dropped


def test_scores_by_hand() -> None:
    a = torch.tensor([[0.0, 2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]).to_sparse()
    b = torch.tensor([[1.0, 3.0, 2.0, 4.0], [5.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).to_sparse()
    assert lexical(a, b).tolist() == [[7.0, 0.0, 0.5], [0.0, 0.0, 0.0]]
    assert lexical(a[0].coalesce(), b).tolist() == [[7.0, 0.0, 0.5]]
    assert lexical(torch.cat([a] * 40), b).shape == (80, 3)
    query, document = torch.eye(4)[:2], torch.tensor([[1.0, 0, 0, 0], [0, 0.6, 0.8, 0]])
    assert mean_maxsim([query], [document]).item() == pytest.approx((1 + 0.6) / 2)
    with pytest.raises(ValueError, match="over 4 tokens with those over 5"):
        lexical(a, torch.ones(1, 5).to_sparse())
    with pytest.raises(ValueError, match="sparse tensors"):
        lexical(a, b.to_dense())


def test_filler_on_the_left_changes_nothing(tmp_path: Path, reference: list[Expected]) -> None:
    check(zoo.load_model(write(tmp_path / "left", side="left"), allow_pickle=True).encode_outputs(TEXTS), reference)


# ------------------------------------------------------------------------------------------------- by name, saved, exported


@pytest.fixture
def by_name(client_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], zoo.Embedder]:
    """The registered bge-m3, but for its sizes, from a hub that has its repository's files."""
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))

    def load(folder: Path) -> zoo.Embedder:
        spec = zoo.get_spec("bge-m3")
        sizes = {"dim": WIDTH, "params": 0, "max_tokens": 48}
        facts = {**spec.to_dict(), **sizes, "name": "bge-m3-tiny", "revision": None}
        zoo.register_model(**facts)(registry.MODELS.builder("bge-m3-test"))
        client_hub.add(folder, spec.hub_id)
        return zoo.load_model("bge-m3-tiny", allow_pickle=True, device="cpu")

    return load


def test_by_name(by_name: Callable[[Path], zoo.Embedder], folder: Path, reference: list[Expected]) -> None:
    model = by_name(folder)
    assert model.spec.outputs == ("sparse", "tokens")
    check(model.encode_outputs(TEXTS), reference)


def test_by_name_without_the_two_layers(by_name: Callable[[Path], zoo.Embedder], tmp_path: Path) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="with sparse, tokens; its checkpoint gives"):
        by_name(write(tmp_path / "plain", heads=False))


def test_without_the_two_layers_a_folder_is_a_dense_model(tmp_path: Path) -> None:
    model = zoo.load_model(write(tmp_path / "plain", heads=False), allow_pickle=True)
    assert model.spec.outputs == ()
    with pytest.raises(ArgumentError, match=r"plain gives no 'sparse' output of a text; models that do: bge-m3"):
        model.encode_sparse("a cat")


def test_saved_and_exported_it_keeps_all_three(model: zoo.Embedder, reference: list[Expected], tmp_path: Path) -> None:
    """Without a pickle. sentence-transformers reads the export's vectors."""
    from sentence_transformers import SentenceTransformer

    from zoo.publishing import exports

    check(zoo.load_model(model.save_pretrained(tmp_path / "saved")).encode_outputs(TEXTS), reference)
    exports.export(model, tmp_path / "export")
    check(zoo.load_model(tmp_path / "export").encode_outputs(TEXTS), reference)
    theirs = SentenceTransformer(str(tmp_path / "export"), device="cpu").encode(list(TEXTS), convert_to_tensor=True)
    assert torch.allclose(theirs, torch.stack([one.dense for one in reference]), atol=BOUND, rtol=0)


# ------------------------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("layer", "error", "why"),
    [
        ({"weight": torch.zeros(2, WIDTH), "bias": torch.zeros(2)}, MissingWeightsError, "gives 2 numbers a token"),
        ({"weight": torch.zeros(1, WIDTH)}, MissingWeightsError, r"weight \(rows, 32\) and bias"),
        ({"weight": torch.zeros(1, 31), "bias": torch.zeros(1)}, MissingWeightsError, r"holds .*\(1, 31\)"),
        ({"weight": torch.full((1, WIDTH), torch.nan), "bias": torch.zeros(1)}, MissingWeightsError, "weight has NaN"),
        ({"weight": pickle.dumps, "bias": torch.zeros(1)}, UnsafeCheckpointError, "more than tensors"),
        ({"weight": torch.zeros(1, WIDTH), "bias": torch.zeros(1), "x": torch.zeros(10**6)}, MissingWeightsError, "bytes"),
    ],
)  # fmt: skip
def test_a_layer_that_is_none(layer: dict[str, object], error: type[Exception], why: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "bad")
    torch.save(layer, folder / "sparse_linear.pt")
    with pytest.raises(error, match=why):
        zoo.load_model(folder, allow_pickle=True)


def test_pickles_only_where_they_are_allowed(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    mixed = write(tmp_path / "mixed")
    save_file(torch.load(mixed / "pytorch_model.bin"), mixed / "model.safetensors", {"format": "pt"})
    (mixed / "pytorch_model.bin").unlink()
    for path in (mixed, folder):
        with pytest.raises(UnsafeCheckpointError, match="allow_pickle=True"):
            zoo.load_model(path)


def test_other_models_say_which_have_outputs() -> None:
    with pytest.raises(ArgumentError, match="text-test gives no 'tokens' output of a text; models that do: bge-m3"):
        zoo.build_model("text-test").encode_tokens(["a"])
    with pytest.raises(ArgumentError, match="call encode, which gives"):
        zoo.build_model("colpali-test").encode_tokens(["a"])
    with pytest.raises(ArgumentError, match="gives no 'colbert' output"):
        zoo.build_model("bge-m3-test").encode_outputs(["a"], ["colbert"])
    with pytest.raises(ArgumentError, match="outputs is empty"):
        zoo.build_model("bge-m3-test").encode_outputs(["a"], [])


def test_a_bad_text_is_named_or_skipped(model: zoo.Embedder) -> None:
    with pytest.raises(EmptyTextError, match="item 1"):
        model.encode_sparse(["a", " "])
    with pytest.warns(UserWarning, match="1 bad items were skipped"):
        assert model.encode_sparse(["a", " ", "b"], on_error="skip").shape == (2, VOCABULARY)


@pytest.mark.parametrize("output", ["sparse", "tokens"])
def test_what_is_not_finite_is_an_error(output: str) -> None:
    model = zoo.build_model("bge-m3-test")
    with torch.no_grad():
        model.towers[0].outputs[output].project.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteEmbeddingError, match="item 0"):
        model.encode_outputs(["a cat"], [output])


def test_facts_and_builder_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))
    facts = {**zoo.get_spec("bge-m3-test").to_dict(), "name": "lying-test", "outputs": ["sparse"]}
    zoo.register_model(**facts)(registry.MODELS.builder("bge-m3-test"))
    with pytest.raises(UnrecognisedCheckpointError, match=r"registered with outputs \['sparse'\]"):
        zoo.build_model("lying-test")
    with pytest.raises(ValueError, match="outputs are among sparse, tokens"):
        zoo.ModelSpec(**{**zoo.get_spec("text-test").to_dict(), "outputs": ["splade"]})
