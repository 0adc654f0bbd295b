"""BertText against transformers' BertModel of the same weights: states of every block, whatever lengths lie side by side."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from tests.encoders.bert_support import SHAPE
from zoo.embedder import Embedder, Tower
from zoo.encoders.bert import Bert, BertText
from zoo.errors import NoSuchBlockError
from zoo.heads import Identity
from zoo.models.text import byte_tokenizer
from zoo.pooling import Mean

LENGTHS = {
    "several": [5, 1, 12, 5, 7, 12, 12],
    "all alike": [6, 6, 6],
    "one": [9],
    "as long as there are positions": [40, 2],
    "none of one": [3, 0, 4],
}


@pytest.fixture(scope="module")
def theirs() -> Any:
    """transformers' own, whose norms and biases are not those that it begins with."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["width"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=SHAPE["heads"],
        intermediate_size=SHAPE["hidden"],
        max_position_embeddings=SHAPE["positions"],
    )
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def ours(theirs: Any) -> Bert:
    bert = Bert(**SHAPE)
    bert.load_state_dict(theirs.state_dict())  # strict: every name, and no other
    return bert


def batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Ids `(B, T)` and mask of texts of these lengths."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(1, SHAPE["vocab_size"], mask.shape) * mask, mask


@pytest.mark.parametrize("name", LENGTHS)
def test_every_block_has_the_states_of_transformers(name: str, ours: Bert, theirs: Any) -> None:
    ids, mask = batch(LENGTHS[name])
    with torch.no_grad():
        found = ours(ids, mask)
        _, *expected = theirs(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    assert len(found) == len(expected) == SHAPE["layers"]
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine[mask], other[mask], rtol=0, atol=1e-5)
        assert not mine[~mask].any()


def test_it_learns_as_that_of_transformers_does(ours: Bert, theirs: Any) -> None:
    ids, mask = batch(LENGTHS["several"])
    aim = torch.randn(int(mask.sum()), SHAPE["width"])
    gradients = []
    for model in (lambda: ours(ids, mask)[-1], lambda: theirs(ids, mask.long()).last_hidden_state):
        (model()[mask] * aim).sum().backward()
    for name, parameter in theirs.named_parameters():
        mine = ours.get_parameter(name).grad
        gradients.append(name)
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert len(gradients) == 4 + 1 + 16 * SHAPE["layers"]
    ours.zero_grad()
    theirs.zero_grad()


def encoder(ours: Bert, **changes: Any) -> BertText:
    """An encoder of bytes with these weights."""
    made = BertText(**{**SHAPE, "max_tokens": 40, "tokenizer": byte_tokenizer(), **changes}).eval()
    made.backbone.load_state_dict(ours.state_dict())
    return made


def model_of(text: BertText) -> Embedder:
    spec = zoo.ModelSpec("mine", frozenset({"text"}), SHAPE["width"], "apache-2.0", max_tokens=40)
    return Embedder(spec, [Tower(text, Mean(), Identity())])


TEXTS = ["a", "a red motorbike", "two", "a text of more bytes than there are places for, which is cut", "red"]


def test_a_vector_does_not_depend_on_its_batch_and_a_long_text_is_cut(ours: Bert) -> None:
    model = model_of(encoder(ours))
    together = model.encode(TEXTS)
    torch.testing.assert_close(together, torch.stack([model.encode(text) for text in TEXTS]), rtol=0, atol=1e-6)
    torch.testing.assert_close(together[3], model.encode(TEXTS[3] + " off"), rtol=0, atol=1e-6)
    model.towers[0].encoder.limit(5)
    torch.testing.assert_close(model.encode("a red motorbike"), model.encode("a r"), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="reads 1 to 40"):
        model.towers[0].encoder.limit(41)


def test_states_of_blocks_by_number_and_what_is_left_of_it_after_some(ours: Bert) -> None:
    text = encoder(ours)
    ids, mask = batch(LENGTHS["several"])
    whole = {"ids": ids, "mask": mask}
    with torch.no_grad():
        last, first = text.forward_layers(whole, [3, 1])
        second = text.forward_layers(whole, [2])[0].states
        assert torch.equal(text(whole).states, last.states)
        assert not torch.allclose(first.states, last.states, atol=1e-2)
        for wrong in (0, 4):
            with pytest.raises(NoSuchBlockError, match=f"blocks 1 to 3, not {wrong}"):
                text.forward_layers(whole, [wrong])
            with pytest.raises(NoSuchBlockError, match=f"blocks 1 to 3, not {wrong}"):
                text.truncate(wrong)
        assert torch.equal(text.truncate(2)(whole).states, second)
    assert (text.depth, text.config()["layers"], len(text.backbone.encoder.layer)) == (2, 2, 2)


def test_a_saved_model_of_it_opens_also_after_it_was_truncated(ours: Bert, tmp_path: Path) -> None:
    model = model_of(encoder(ours))
    for name in ("whole", "short"):
        if name == "short":
            model.towers[0].encoder.truncate(2)
        again = zoo.load_model(model.save_pretrained(tmp_path / name), device="cpu")
        assert type(again.towers[0].encoder) is BertText
        assert torch.equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 5}, "width 32 with 5 heads"),
        ({"layers": 0}, "0 blocks"),
        ({"max_tokens": 41}, "after 41 tokens; this model reads 1 to 40"),
    ],
)
def test_a_shape_that_nothing_can_be_computed_with_is_refused_at_once(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BertText(**{**SHAPE, "max_tokens": 40, **changes})


@pytest.mark.slow
def test_the_packaged_model_reads_texts_without_transformers() -> None:
    """Its import alone takes a second or two, which `zoo search` would wait for at every start."""
    code = "import sys, zoo; zoo.load_model('zoo-mini', device='cpu').encode('a cat'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "zoo.encoders.bert" in modules
    assert not [name for name in ("transformers", "open_clip", "sentence_transformers") if name in modules]
