"""GradCache: the gradient of a cached batch is the gradient of the whole batch, for every model and every loss."""

import numpy as np
import pytest
import torch
from torch import nn
from zoo.training.errors import RecipeError
from zoo.training.grad_cache import CachedEmbeddings, Read
from zoo.training.losses import build_loss, list_losses

from tests.training.loss_support import right_of
from zoo import build_model
from zoo.inputs.item import Item

COUNT = 6
SPECIAL = {
    "matryoshka": "matryoshka(dims=[16, 8]):infonce",
    "layers": "infonce + layers",
    "matryoshka_2d": "matryoshka_2d(dims=[16, 8]):infonce",
    "starbucks": "starbucks(pairs=[[1, 8], [2, 32]]):infonce",
}


def model_of(name: str, dropout: float = 0.0):
    model = build_model(name).double().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # micro-batches have statistics of their own
    return model


def reads_of(model, items):
    out = []
    for item in items:
        tower = model.route(item)
        position = next(i for i, other in enumerate(model.towers) if other is tower)
        out.append(Read(position, tower.encoder.prepare_item(item)))
    return out


def items_of(model, negatives: int):
    rng = np.random.default_rng(0)
    words = ["red", "a blue car", "the green tree on a hill", "x", "two small dogs in the snow", "night"]
    texts = [f"{words[i % len(words)]} {i}" for i in range(COUNT * (2 + negatives))]
    if "image" in model.spec.modalities:
        queries = [Item(image=rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(COUNT)]
        if "text" not in model.spec.modalities:
            return queries + [Item(image=rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in texts[COUNT:]]
    else:
        queries = [Item(text=text) for text in texts[:COUNT]]
    return queries + [Item(text=text) for text in texts[COUNT:]]


def gradients(model, loss, micro_batch, negatives, extras):
    model.zero_grad()
    loss.zero_grad()
    encode = lambda tower, batch, layers: model.towers[tower](batch, layers) if layers else model.towers[tower](batch)  # noqa: E731
    reads = reads_of(model, items_of(model, negatives))
    layers = loss.layers if loss.layers != "all" else tuple(range(1, model.towers[0].encoder.depth + 1))
    embedded = CachedEmbeddings(encode, model, reads, micro_batch=micro_batch, layers=layers, seed=5)
    queries = embedded.vectors[:COUNT].clone().requires_grad_()
    targets = embedded.vectors[COUNT:].clone().requires_grad_()
    torch.manual_seed(1)
    value = loss(queries, targets, **{k: v for k, v in extras.items() if k in loss.reads | loss.may_read})
    value.backward()
    embedded.backward(torch.cat([queries.grad, targets.grad]))
    named = [*model.named_parameters(), *(("loss." + n, p) for n, p in loss.named_parameters())]
    return float(value.detach()), {name: p.grad.clone() for name, p in named if p.grad is not None}


def extras_of(negatives: int, teacher: int = 7):
    generator = torch.Generator().manual_seed(3)
    targets = COUNT * (1 + negatives)
    unit = lambda n: nn.functional.normalize(torch.randn(n, teacher, generator=generator, dtype=torch.float64), dim=1)  # noqa: E731
    return {
        "right": right_of(torch.rand(COUNT, targets, generator=generator) < 0.2),
        "scores": torch.rand(COUNT, generator=generator, dtype=torch.float64),
        "teacher_queries": unit(COUNT),
        "teacher_targets": unit(targets),
        "teacher_scores": torch.rand(COUNT, 1 + negatives, generator=generator, dtype=torch.float64),
        "progress": 0.6,
    }


def assert_same(whole, cached):
    assert cached[0] == pytest.approx(whole[0], rel=1e-10)
    assert cached[1].keys() == whole[1].keys()
    for name, grad in whole[1].items():
        torch.testing.assert_close(cached[1][name], grad, atol=1e-8, rtol=1e-5, msg=name)
    assert any(bool(grad.abs().max() > 0) for grad in whole[1].values())


@pytest.mark.parametrize(
    "name", ["text-test", "modernbert-test", "clip-test", "siglip-test", "mini-test", "image-test"]
)
@pytest.mark.parametrize("micro_batch", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_every_model(name, micro_batch):
    model, loss = model_of(name), build_loss("infonce(temperature=0.2)").double()
    extras = extras_of(0)
    assert_same(gradients(model, loss, None, 0, extras), gradients(model, loss, micro_batch, 0, extras))


@pytest.mark.parametrize("name", list_losses("embedders"))
def test_every_loss(name):
    model, loss = model_of("text-test"), build_loss(SPECIAL.get(name, name)).double()
    extras = extras_of(2, model.spec.dim if name == "imitation" else 7)  # which copies vectors, so has as many columns
    assert_same(gradients(model, loss, None, 2, extras), gradients(model, loss, 5, 2, extras))


def test_dropout_draws_the_same_twice():
    """The two passes of a chunk must agree: otherwise the gradient is that of another function."""
    model, loss = model_of("text-test", dropout=0.3), build_loss("infonce(temperature=0.2, learn=False)").double()
    extras = extras_of(0)
    value, grads = gradients(model, loss, 3, 0, extras)
    weight = model.towers[0].encoder.backbone.encoder.layer[0].attention.self.query.weight
    name = next(n for n, p in model.named_parameters() if p is weight)
    step = 1e-5
    moved = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
        moved.append(gradients(model, loss, 3, 0, extras)[0])
        with torch.no_grad():
            weight[0, 0] -= sign * step
    assert float(grads[name][0, 0]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-9)
    assert gradients(model, loss, 3, 0, extras)[0] == value


def test_running_statistics_move_once():
    items = items_of(model_of("mini-test"), 0)
    after = []
    for micro_batch in (3, None):
        torch.manual_seed(0)
        model = build_model("mini-test").train()
        encode = lambda tower, batch, layers, model=model: model.towers[tower](batch)  # noqa: E731
        reads = reads_of(model, items[:3]) if micro_batch is None else reads_of(model, items[:3] * 2)
        embedded = CachedEmbeddings(encode, model, reads, micro_batch=micro_batch)
        embedded.backward(torch.ones_like(embedded.vectors))
        norm = next(m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        after.append(int(norm.num_batches_tracked))
    assert after == [2, 1]  # two micro-batches, each computed twice or kept, each counted once


def test_finished_vectors_stand_in_for_reads():
    model = model_of("text-test")
    known = nn.functional.normalize(torch.randn(model.spec.dim, dtype=torch.float64), dim=0)
    reads = [Read(0, vector=known), *reads_of(model, [Item(text="a"), Item(text="b")])]
    embedded = CachedEmbeddings(lambda tower, batch, layers: model.towers[tower](batch), model, reads)
    torch.testing.assert_close(embedded.vectors[0], known)
    embedded.backward(torch.ones_like(embedded.vectors))


def test_no_item_is_left_alone_where_batches_are_normalised():
    """The last chunk joins the one before it; where a tower has a single item, that is said by name."""
    model = build_model("mini-test").train()
    items = items_of(model, 0)
    encode = lambda tower, batch, layers: model.towers[tower](batch)  # noqa: E731
    images = [read for read in reads_of(model, items) if read.tower == 0][:1] * 5
    for micro_batch, sizes in ((2, [3, 2]), (4, [5]), (3, [2, 3])):
        embedded = CachedEmbeddings(encode, model, images, micro_batch=micro_batch)
        assert [len(chunk.values) for chunk in embedded.chunks] == sizes
    for reads, micro_batch in ((images, 1), (images[:1], None)):
        with pytest.raises(RecipeError, match="cannot be trained on one item alone"):
            CachedEmbeddings(encode, model, reads, micro_batch=micro_batch)
    model.eval()
    assert (
        len(CachedEmbeddings(encode, model, images, micro_batch=2).chunks) == 3
    )  # nothing is normalised: as was asked
