"""A model's first blocks and dimensions: its vectors are those of the whole model after that block, cut; saved and opened again."""

import pytest
import torch

from zoo import build_model, load_model
from zoo.errors import ArgumentError, NoSuchBlockError, NotOfferedError
from zoo.formats.shortening import shorten
from zoo.heads import Linear, Mlp
from zoo.inputs.item import Item

TEXTS = ["a cat", "some more words about a dog", "x"]


def after(model, block: int, dim: int) -> torch.Tensor:
    """Vectors of the whole model after a block, cut."""
    batch = model.towers[0].encoder.prepare([Item(text=text) for text in TEXTS])
    with torch.no_grad():
        return torch.nn.functional.normalize(model.eval().towers[0](batch, (block,))[:, 0, :dim], dim=-1)


@pytest.mark.parametrize("name", ["text-test", "modernbert-test"])
@pytest.mark.parametrize(("layers", "dim"), [(1, 16), (1, None), (None, 16)])
def test_it_is_the_whole_model_after_a_block_and_cut(name, layers, dim, tmp_path):
    torch.manual_seed(0)
    whole = build_model(name)
    expected = after(whole, layers or whole.towers[0].encoder.depth, dim or whole.spec.dim)
    weights = sum(p.numel() for p in whole.parameters())
    whole.save_pretrained(tmp_path / "whole")
    short = load_model(tmp_path / "whole", layers=layers, dim=dim)
    assert (short.encode(TEXTS) - expected).abs().max() < 1e-5
    assert short.spec.dim == expected.shape[1]
    assert short.spec.name != name
    assert short.spec.params == sum(p.numel() for p in short.parameters()) <= weights
    assert (short.spec.params < weights) == (layers is not None)
    assert max(short.spec.dims, default=0) <= short.spec.dim
    again = load_model(short.save_pretrained(tmp_path / "short"))
    assert torch.equal(again.encode(TEXTS), short.encode(TEXTS))
    assert again.spec == short.spec
    assert again.fingerprint()["weights"] == short.fingerprint()["weights"]
    assert again.fingerprint() != load_model(tmp_path / "whole").fingerprint()
    if layers:
        assert again.towers[0].encoder.depth == layers
        sizes = [(tmp_path / place / "model.safetensors").stat().st_size for place in ("short", "whole")]
        assert sizes[0] < sizes[1]


def test_a_projection_loses_its_other_rows():
    model = build_model("text-test").eval()
    model.towers[0].head = Linear(model.towers[0].encoder.width, model.spec.dim, bias=True)
    expected = after(model, 1, 16)
    short = shorten(model, 1, 16)
    assert short.towers[0].head.project.weight.shape[0] == 16
    assert (short.encode(TEXTS) - expected).abs().max() < 1e-6
    assert short.spec.dims == (16,)
    with pytest.warns(UserWarning, match=r"was trained only for \[16\]; 2 dimensions lose accuracy"):
        shorten(short, dim=2)
    assert (short.encode(TEXTS) - torch.nn.functional.normalize(expected[:, :2], dim=-1)).abs().max() < 1e-6


def test_the_whole_of_it_is_the_model_itself():
    model = build_model("text-test")
    spec = model.spec
    assert shorten(model, model.towers[0].encoder.depth, spec.dim) is model
    assert model.spec is spec


def test_what_cannot_be_shortened_says_why_and_stays():
    model = build_model("text-test").eval()
    before = model.encode(TEXTS)
    for layers, dim, error, says in (
        (3, None, NoSuchBlockError, "text-test's tower for text has blocks 1 to 2, not 3"),
        (1, 64, ArgumentError, "from 1 to 32 for text-test, not 64"),
    ):
        with pytest.raises(error, match=says):
            shorten(model, layers, dim)
    with pytest.raises(NoSuchBlockError, match="tower for image cannot be told apart"):
        shorten(build_model("clip-test"), layers=1)
    assert torch.equal(model.encode(TEXTS), before)
    model.towers[0].head = Mlp(model.towers[0].encoder.width, model.spec.dim)
    with pytest.raises(NotOfferedError, match=r"a head Mlp cannot be cut to 16 dimensions; encode\(dim=16\)"):
        shorten(model, 1, 16)
    assert model.towers[0].encoder.depth == 2
