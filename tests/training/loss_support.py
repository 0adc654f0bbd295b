"""What the tests of losses share: float64 vectors, losses in float64, sentence-transformers' losses over given vectors."""

import math

import torch
from torch.nn import functional as F
from zoo.training.losses import build_loss
from zoo.training.losses.base import Loss, Temperature
from zoo.training.losses.infonce import InfoNCE

from zoo.inputs.identity import Right


def units(*shape: int, grad: bool = False) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).requires_grad_(grad)


def right_of(matrix: torch.Tensor) -> Right:
    """What a matrix `(B, T)` of truth values says, with each item another and each query a set of its own; it keeps the
    matrix, for loops to read."""
    count, items = matrix.shape
    queries, asks = torch.arange(items, items + count), torch.arange(count)[:, None]
    right = Right(queries, torch.arange(items), asks, matrix.nonzero(), sets=count, items=items + count)
    right.matrix = matrix
    return right


def right_in_groups(queries: torch.Tensor, targets: torch.Tensor) -> Right:
    """Targets are right for the queries of their group."""
    return right_of(queries[:, None] == targets)


def exact(loss: Loss) -> Loss:
    """The loss in float64, with the temperature that was asked for rather than its float32."""
    for module in loss.double().modules():
        if isinstance(module, Temperature):
            temperature = round(1 / module.scale.item(), 6)
            module.log_scale.data.fill_(-math.log(temperature))
    return loss


def made(name: str, **options) -> Loss:
    """A loss as a recipe writes it, in float64."""
    return exact(build_loss(f"{name}({', '.join(f'{option}={value!r}' for option, value in options.items())})"))


def plain_infonce(**options) -> InfoNCE:
    return exact(InfoNCE(temperature=0.1, symmetric=False, **options))


class Columns(torch.nn.Module):
    """A model for sentence-transformers' losses, whose embeddings of a column are given."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, features):
        return {"sentence_embedding": self.columns[features["column"]]}

    def get_embedding_dimension(self):
        return self.columns[0].shape[-1]


def columns_of(queries, targets):
    """Query, positive and each hard negative, as sentence-transformers' columns."""
    count = len(queries)
    parts = [queries, targets[:count], *targets[count:].view(count, -1, targets.shape[-1]).unbind(1)]
    return Columns(parts), [{"column": i} for i in range(len(parts))]


def st(name: str):
    from sentence_transformers.sentence_transformer import losses

    return getattr(losses, name)


def same(a: torch.Tensor, b: torch.Tensor, *leaves: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Equal values, and equal gradients in the leaves."""
    assert abs(a.item() - b.item()) < tolerance * max(1, abs(b.item()))
    mine, theirs = (torch.autograd.grad(value, leaves, retain_graph=True) for value in (a, b))
    for ours, reference in zip(mine, theirs, strict=True):
        assert (ours - reference).abs().max() < tolerance * max(1, reference.abs().max())


def same_on_sphere(a: torch.Tensor, b: torch.Tensor, *leaves: torch.Tensor) -> None:
    """`same` where the reference makes vectors of unit length again: gradients differ only along the vectors."""
    assert abs(a.item() - b.item()) < 1e-10 * max(1, abs(b.item()))
    mine, theirs = (torch.autograd.grad(value, leaves) for value in (a, b))
    for ours, reference, leaf in zip(mine, theirs, leaves, strict=True):
        difference = ours - reference
        along = (difference * leaf).sum(-1, keepdim=True) * leaf
        assert (difference - along).abs().max() < 1e-9 < reference.abs().max()
