"""Poolers and heads against values computed by hand, and against sentence-transformers' own pooling."""

import pytest
import torch

from zoo import pooling
from zoo.heads import DenseStack, Identity, Linear, Mlp
from zoo.inputs.item import Tokens

STATES = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], [[2.0, 0.0], [4.0, 2.0], [99.0, 99.0]]])
RIGHT = torch.tensor([[True, True, True], [True, True, False]])
HAND = {
    "Cls": [[1, 2], [2, 0]],
    "Mean": [[3, 5], [3, 1]],
    "LastToken": [[5, 9], [4, 2]],
    "Max": [[5, 9], [4, 2]],
    "WeightedMean": [[(1 + 6 + 15) / 6, (2 + 8 + 27) / 6], [10 / 3, 4 / 3]],
    "MeanSqrtLength": [[9 / 3**0.5, 15 / 3**0.5], [6 / 2**0.5, 2 / 2**0.5]],
}


@pytest.mark.parametrize("name", HAND)
def test_poolers_by_hand(name):
    out = getattr(pooling, name)()(Tokens(STATES, RIGHT))
    torch.testing.assert_close(out, torch.tensor(HAND[name], dtype=torch.float32))


@pytest.mark.parametrize("name", ["Mean", "LastToken", "Max", "WeightedMean", "MeanSqrtLength"])
def test_the_side_of_the_padding_does_not_matter(name):
    left = Tokens(STATES.roll(1, 1), RIGHT.roll(1, 1))
    left = Tokens(torch.stack([STATES[0], left.states[1]]), torch.stack([RIGHT[0], left.mask[1]]))
    pool = getattr(pooling, name)()
    torch.testing.assert_close(pool(left), pool(Tokens(STATES, RIGHT)))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("cls", "Cls"),
        ("mean", "Mean"),
        ("max", "Max"),
        ("lasttoken", "LastToken"),
        ("weightedmean", "WeightedMean"),
        ("mean_sqrt_len_tokens", "MeanSqrtLength"),
    ],
)
def test_poolers_equal_sentence_transformers(mode, name):
    models = pytest.importorskip("sentence_transformers.sentence_transformer.modules.pooling")
    states, lengths = torch.randn(6, 9, 16), torch.tensor([9, 1, 4, 7, 2, 9])
    mask = torch.arange(9) < lengths[:, None]
    reference = models.Pooling(16, pooling_mode=mode)(
        {"token_embeddings": states.clone(), "attention_mask": mask.long(), "cls_token_embeddings": states[:, 0]}
    )["sentence_embedding"]
    torch.testing.assert_close(getattr(pooling, name)()(Tokens(states, mask)), reference)


def test_concat_is_side_by_side():
    tokens = Tokens(STATES, RIGHT)
    both = pooling.Concat(["Cls", "Mean"])(tokens)
    torch.testing.assert_close(both, torch.cat([pooling.Cls()(tokens), pooling.Mean()(tokens)], 1))


def test_heads_project_to_their_dim():
    x = torch.randn(3, 8)
    assert Identity()(x) is x
    linear = Linear(8, 4)
    torch.testing.assert_close(linear(x), x @ linear.project.weight.T)
    assert Mlp(8, 4, hidden=16)(x).shape == (3, 4)
    assert Mlp(**Mlp(8, 4, hidden=16).config())(x).shape == (3, 4)


def test_a_dense_stack_runs_in_order_and_refuses_what_it_does_not_know():
    layers = [
        {"kind": "dense", "width": 8, "dim": 4, "bias": True, "activation": "Tanh"},
        {"kind": "normalize"},
        {"kind": "layer_norm", "width": 4},
    ]
    stack, x = DenseStack(layers), torch.randn(3, 8)
    dense = stack.layers[0][0]
    unit = torch.nn.functional.normalize(torch.tanh(x @ dense.weight.T + dense.bias), dim=-1)
    torch.testing.assert_close(stack(x), torch.nn.functional.layer_norm(unit, (4,)))
    with pytest.raises(ValueError, match="unknown layer"):
        DenseStack([{"kind": "dense", "width": 8, "dim": 4, "bias": True, "activation": "exec"}])
