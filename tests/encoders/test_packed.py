"""Texts packed into one row: the same vectors, and in training the same gradients, as those of padded ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.encoders.base import Batch
from zoo.encoders.text import TransformersText

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 40,
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BACKBONES = {
    "bert": STILL,
    "roberta": {**STILL, "pad_token_id": 1},
    "gte": {**STILL, "rope_parameters": {"rope_type": "linear", "rope_theta": 320.0, "factor": 1.2}},
    "modernbert": {"local_attention": 6, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    | {"cls_token_id": 1, "sep_token_id": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "llama": {"num_key_value_heads": 4, "is_causal": False},
    "mistral": {"num_key_value_heads": 2, "is_causal": False, "sliding_window": None},
}
LENGTHS = [9, 4, 12, 4, 1, 9]


def encoder_of(kind: str, **changes: Any) -> TransformersText:
    return TransformersText({"model_type": kind, **SIZES, **BACKBONES[kind], **changes}, max_tokens=20)


def batch_of(encoder: TransformersText, lengths: list[int]) -> Batch:
    return encoder.collate([torch.randint(3, 60, (length,)).tolist() for length in lengths])


def padded(encoder: TransformersText, batch: Batch) -> Tensor:
    return encoder.backbone(input_ids=batch["ids"], attention_mask=batch["mask"].long()).last_hidden_state


def was_packed(encoder: TransformersText, batch: Batch) -> bool:
    """Packed texts have nothing where padding would be; padded ones have states there, which nobody reads."""
    filler = encoder(batch).states[~batch["mask"]]
    assert len(filler) > 0
    return not filler.any()


@pytest.mark.parametrize("kind", BACKBONES)
def test_gradients_are_those_of_padded_texts(kind: str) -> None:
    encoder = encoder_of(kind).train()
    batch = batch_of(encoder, LENGTHS)
    assert was_packed(encoder, batch)
    weights, found = torch.randn(int(batch["mask"].sum()), 32), []

    def states(read: Callable[[], Tensor]) -> Tensor:
        encoder.zero_grad()
        states = read()[batch["mask"]]
        (states * weights).sum().backward()
        found.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
        return states

    whole = states(lambda: padded(encoder, batch))
    torch.testing.assert_close(states(lambda: encoder(batch).states), whole, atol=1e-5, rtol=1e-5)
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(
            found[1][name], grad, atol=1e-5 * max(1.0, float(grad.abs().max())), rtol=0, msg=name
        )
    assert max(float(grad.abs().max()) for grad in found[0].values()) > 0.1


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_order_of_the_texts_is_kept_to_the_bit(kind: str) -> None:
    encoder = encoder_of(kind).eval()
    batch = batch_of(encoder, sorted(LENGTHS))
    mixed = torch.tensor([4, 1, 5, 2, 0, 3])  # texts of 9, 4, 12, 4, 1, 9 tokens; of one length in the order they had
    with torch.inference_mode():
        states = encoder(batch).states
        assert torch.equal(encoder({name: value[mixed] for name, value in batch.items()}).states, states[mixed])


def test_texts_in_order_are_read_as_one_row() -> None:
    """What sorted texts gave before they were sorted here, to the bit: one call, each text's positions from 0."""
    encoder = encoder_of("bert").eval()
    batch = batch_of(encoder, [2, 3, 3, 7])
    with torch.inference_mode():
        row = torch.cat([ids[mask] for ids, mask in zip(batch["ids"], batch["mask"], strict=True)])
        positions = torch.cat([torch.arange(length) for length in (2, 3, 3, 7)])
        runs = [(2, 1), (3, 2), (7, 1)]
        expected = encoder.backbone(input_ids=row[None], position_ids=positions[None], zoo_runs=runs).last_hidden_state
        assert torch.equal(encoder(batch).states[batch["mask"]], expected[0])


@pytest.mark.parametrize(
    ("kind", "dropout"),
    [
        ("bert", "attention_probs_dropout_prob"),
        ("gte", "attention_probs_dropout_prob"),
        ("modernbert", "attention_dropout"),
    ],
)
def test_with_dropout_of_the_attention_training_is_padded(kind: str, dropout: str) -> None:
    encoder = encoder_of(kind, **{dropout: 0.1})
    batch = batch_of(encoder, LENGTHS)
    assert not was_packed(encoder.train(), batch)
    assert was_packed(encoder.eval(), batch)


def test_prompts_that_are_not_pooled_stay_with_their_texts() -> None:
    encoder = TransformersText({"model_type": "bert", **SIZES, **STILL}, max_tokens=20, pool_prompt=False).train()
    batch = batch_of(encoder, LENGTHS)
    batch["pooled"] = batch["mask"] & (torch.arange(12) >= torch.tensor([3, 1, 5, 2, 0, 4])[:, None])
    tokens = encoder(batch)
    assert torch.equal(tokens.mask, batch["pooled"])
    torch.testing.assert_close(tokens.states[tokens.mask], padded(encoder, batch)[tokens.mask], atol=1e-5, rtol=1e-5)


def test_a_decoders_windows_are_transformers_to_count() -> None:
    encoder = encoder_of("mistral", is_causal=True, sliding_window=6).eval()
    batch = batch_of(encoder, LENGTHS)
    with torch.no_grad():
        assert not was_packed(encoder, batch)
        encoder.limit(6)
        assert was_packed(encoder, batch_of(encoder, [6, 3]))
